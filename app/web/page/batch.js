/** Many overviews in one request, each shown as it completes. */

import { batch, SECTIONS } from "./api.js";
import { STATES } from "./content.js";
import { h, icon } from "./dom.js";
import { announce } from "./messages.js";
import { humanize, ms } from "./timeline.js";

const TIMEOUT = 10_000; // milliseconds
const MAX_USERS = 100;

export class Batch {
  #form;
  #tiles;
  #progress;
  #output;
  #onError;
  #current = new AbortController();

  /**
   * @param {HTMLElement} root  its element in index.html
   * @param {() => import("./api.js").Query | false} readQuery
   *   the query for each user, or false if the form is invalid
   * @param {(error: unknown) => void} onError
   */
  constructor(root, readQuery, onError) {
    this.#form = root.querySelector("form");
    this.#tiles = root.querySelector("[data-tiles]");
    this.#progress = root.querySelector("progress");
    this.#output = root.querySelector("output");
    this.#onError = onError;
    const { users, stop } = this.#form.elements;
    users.addEventListener("input", () => users.setCustomValidity(""));
    stop.addEventListener("click", () => this.#stop());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { ids, validationMessage } = parseUserIds(users.value);
      users.setCustomValidity(validationMessage);
      const query = this.#form.reportValidity() && readQuery();
      if (query) this.#run(ids, query);
    });
  }

  #stop() {
    this.#current.abort();
    for (const tile of this.#tiles.querySelectorAll("[data-state=pending]")) {
      tile.replaceWith(emptyTile(tile.dataset.user, "stopped"));
    }
    if (document.activeElement === this.#form.elements.stop) this.#form.elements.send.focus();
    this.#form.elements.stop.hidden = true;
  }

  async #run(ids, query) {
    this.#current.abort();
    const { signal } = (this.#current = new AbortController());
    this.#tiles.replaceChildren(...ids.map((id) => emptyTile(id, "pending")));
    this.#form.elements.stop.hidden = false;
    const startTime = performance.now();
    const count = { completed: 0, failed: 0 };
    const showProgress = (suffix = "") =>
      this.#showProgress(count, ids.length, performance.now() - startTime, suffix);
    showProgress();
    try {
      for await (const item of batch(ids, { ...query, timeout: TIMEOUT }, signal)) {
        count.completed += 1;
        if (item.status === "failed") count.failed += 1;
        const tile = this.#tiles.querySelector(`[data-user="${Number(item.user_id)}"]`);
        tile?.replaceWith(resultTile(item, count.completed, performance.now() - startTime));
        showProgress();
      }
    } catch (error) {
      if (!signal.aborted) this.#onError(error);
    }
    if (this.#current.signal !== signal) return; // another batch has started
    if (count.completed < ids.length) showProgress(", stopped");
    announce(`Batch: ${this.#output.textContent}.`);
    this.#stop();
  }

  #showProgress({ completed, failed }, total, elapsed, suffix) {
    this.#progress.max = total;
    this.#progress.value = completed;
    const failures = failed ? `, ${failed} failed` : "";
    this.#output.textContent = `${completed} of ${total} in ${ms(elapsed)}${failures}${suffix}`;
  }
}

/** Parses `1-10, 999` into distinct numbers, or explains in `validationMessage` why not. */
function parseUserIds(text) {
  const ids = new Set();
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const [, from, to = from] = /^([1-9]\d{0,14})(?:[-–]([1-9]\d{0,14}))?$/.exec(part) ?? [];
    if (!from) return { validationMessage: `“${part}” is neither a number nor a range like 1-10.` };
    for (let id = Number(from); id <= Number(to) && ids.size <= MAX_USERS; id++) ids.add(id);
  }
  const validationMessage =
    ids.size > MAX_USERS
      ? `At most ${MAX_USERS} users at once.`
      : ids.size
        ? ""
        : "Enter at least one user.";
  return { ids: [...ids], validationMessage };
}

const emptyTile = (user, state) =>
  tile(user, state, null, h("p", { class: "muted" }, STATES[state]));

function resultTile({ user_id, status, overview, error }, position, elapsed) {
  const name = overview?.user.data?.name;
  const timing = h("p", { class: "elapsed" }, `no. ${position} · ${ms(elapsed)}`);
  if (status === "failed")
    return tile(user_id, status, name, h("p", { class: "error-title" }, error.title), timing);
  const states = SECTIONS.map((section) => sectionItem(section, overview[section]));
  return tile(user_id, status, name, h("ul", {}, states), timing);
}

const tile = (user, state, name, ...children) =>
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
    children,
  );

const sectionItem = (name, { status, error }) =>
  h(
    "li",
    { "data-state": status },
    icon(status),
    `${name} ${error ? humanize(error.reason) : STATES[status]}`,
  );
