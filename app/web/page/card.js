import { failed, ok, skeleton, skipped, STATES } from "./content.js";
import { h, icon } from "./dom.js";
import { announce } from "./messages.js";
import { Retry } from "./retry.js";

/** The card of one section: pending, then ok, failed or skipped. A failed section can be retried. */
export class Card {
  element;
  #name;
  #heading;
  #state = h("p", { class: "state" });
  #body = h("div", { class: "body" });
  #retry;
  #error = null;
  #included = true;

  /**
   * @param {string} name
   * @param {(href: string) => Promise<import("./api.js").Section | undefined>} fetchSection
   *   requests this section alone; undefined if another request has replaced this one
   */
  constructor(name, fetchSection) {
    this.#name = name;
    this.#heading = h("h3", { id: `card-${name}`, tabindex: -1 }, name);
    this.#retry = new Retry(name, async () => {
      this.#setState("pending");
      const section = await fetchSection(this.#error.href);
      if (section) this.complete(section);
    });
    this.element = h(
      "article",
      { class: "card", "data-card": name, "aria-labelledby": `card-${name}` },
      h("header", {}, this.#heading, this.#state),
      this.#body,
      this.#retry.element,
    );
    this.#setState("idle");
  }

  get state() {
    return this.element.dataset.state;
  }

  /** Discards the last request’s section and waits for a new one. */
  start(included) {
    this.#included = included;
    this.#error = null;
    this.#retry.reset();
    this.#setState("pending");
    this.#body.replaceChildren(...skeleton(this.#name));
  }

  /** @param {import("./api.js").Section} section */
  complete(section) {
    const recovered = section.status === "ok" && this.#error !== null;
    const replaced = section.status === "failed" ? this.#body : this.element;
    const focused = replaced.contains(document.activeElement);
    this.#body.replaceChildren(...this.#contentOf(section));
    this.#setState(section.status, recovered ? "recovered" : STATES[section.status]);
    if (focused) this.#heading.focus();
    if (section.status === "failed") {
      this.#error = section.error;
      this.#retry.show(section.error);
      announce(`${this.#name} failed: ${section.error.title}.`);
    } else {
      this.#retry.reset();
      if (section.status === "ok")
        announce(`${this.#name} ${recovered ? "recovered" : "completed"}.`);
    }
  }

  #contentOf(section) {
    if (section.status === "ok") return ok(this.#name, section);
    if (section.status === "failed") return failed(section.error);
    return skipped(this.#included);
  }

  #setState(state, text = STATES[state]) {
    this.element.dataset.state = state;
    this.element.ariaBusy = state === "pending";
    this.#state.replaceChildren(icon(state), text);
  }
}
