/** Many overviews in one request, each shown as it completes. */

import { batch, SECTIONS } from "./api.js";
import { STATES } from "./content.js";
import { h, icon } from "./dom.js";
import { announce } from "./messages.js";
import { humanize, ms } from "./timeline.js";

const TIMEOUT = 10_000; // milliseconds
const MOST = 100; // users

export class Batch {
  #form;
  #tiles;
  #progress;
  #said;
  #onError;
  #current = new AbortController();

  /**
   * @param {HTMLElement} root  the part of index.html
   * @param {() => import("./api.js").Query | false} read  the query for each user, if the form is valid
   * @param {(error: unknown) => void} onError
   */
  constructor(root, read, onError) {
    this.#form = root.querySelector("form");
    this.#tiles = root.querySelector("[data-tiles]");
    this.#progress = root.querySelector("progress");
    this.#said = root.querySelector("output");
    this.#onError = onError;
    const { users, stop } = this.#form.elements;
    users.addEventListener("input", () => users.setCustomValidity(""));
    stop.addEventListener("click", () => this.#stop());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { ids, wrong } = userIds(users.value);
      users.setCustomValidity(wrong);
      const query = this.#form.reportValidity() && read();
      if (query) this.#run(ids, query);
    });
  }

  #stop() {
    this.#current.abort();
    for (const tile of this.#tiles.querySelectorAll("[data-state=pending]")) {
      tile.replaceWith(blank(tile.dataset.user, "stopped"));
    }
    if (document.activeElement === this.#form.elements.stop) this.#form.elements.send.focus();
    this.#form.elements.stop.hidden = true;
  }

  async #run(ids, query) {
    this.#current.abort();
    const { signal } = (this.#current = new AbortController());
    this.#tiles.replaceChildren(...ids.map((id) => blank(id, "pending")));
    this.#form.elements.stop.hidden = false;
    const began = performance.now();
    const count = { completed: 0, failed: 0 };
    const tell = (more = "") => this.#tell(count, ids.length, performance.now() - began, more);
    tell();
    try {
      for await (const item of batch(ids, { ...query, timeout: TIMEOUT }, signal)) {
        count.completed += 1;
        if (item.status === "failed") count.failed += 1;
        const tile = this.#tiles.querySelector(`[data-user="${Number(item.user_id)}"]`);
        tile?.replaceWith(filled(item, count.completed, performance.now() - began));
        tell();
      }
    } catch (error) {
      if (!signal.aborted) this.#onError(error);
    }
    if (this.#current.signal !== signal) return; // another one has begun
    if (count.completed < ids.length) tell(", stopped");
    announce(`Batch: ${this.#said.textContent}.`);
    this.#stop();
  }

  #tell({ completed, failed }, all, elapsed, more) {
    this.#progress.max = all;
    this.#progress.value = completed;
    const failures = failed ? `, ${failed} failed` : "";
    this.#said.textContent = `${completed} of ${all} in ${ms(elapsed)}${failures}${more}`;
  }
}

/** `1-10, 999` as numbers, each once; or what is wrong with it. */
function userIds(text) {
  const ids = new Set();
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const [, from, to = from] = /^([1-9]\d{0,14})(?:[-–]([1-9]\d{0,14}))?$/.exec(part) ?? [];
    if (!from) return { wrong: `“${part}” is neither a number nor a range like 1-10.` };
    for (let id = Number(from); id <= Number(to) && ids.size <= MOST; id++) ids.add(id);
  }
  const wrong =
    ids.size > MOST ? `At most ${MOST} users at once.` : ids.size ? "" : "Name some users.";
  return { ids: [...ids], wrong };
}

const blank = (user, state) => tile(user, state, null, h("p", { class: "muted" }, STATES[state]));

function filled({ user_id, status, overview, error }, place, elapsed) {
  const name = overview?.user.data?.name;
  const when = h("p", { class: "elapsed" }, `no. ${place} · ${ms(elapsed)}`);
  if (status === "failed")
    return tile(user_id, status, name, h("p", { class: "error-title" }, error.title), when);
  const states = SECTIONS.map((section) => part(section, overview[section]));
  return tile(user_id, status, name, h("ul", {}, states), when);
}

const tile = (user, state, name, ...inside) =>
  h(
    "li",
    { "data-tile": true, "data-user": user, "data-state": state },
    h(
      "h3",
      {},
      h("span", { class: "visually-hidden" }, "User "),
      user,
      name && h("span", {}, name),
    ),
    inside,
  );

const part = (name, { status, error }) =>
  h(
    "li",
    { "data-state": status },
    icon(status),
    `${name} ${error ? humanize(error.reason) : STATES[status]}`,
  );
