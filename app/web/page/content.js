/** The content of a card: each exported function returns a list of nodes. */

import { serviceUrl } from "./api.js";
import { h, icon } from "./dom.js";
import { ms } from "./timeline.js";

/** The text of each state of a section, or of a user in a batch. */
export const STATES = {
  idle: "not requested",
  pending: "pending",
  ok: "ok",
  failed: "failed",
  skipped: "skipped",
  stopped: "stopped",
};

const INITIAL_ITEMS = { posts: 3, todos: 8 };
const SHOW_AGE_AFTER = 5_000; // milliseconds

const RENDERERS = { user: profile, posts, todos };

/** @param {import("./api.js").Section & { status: "ok" }} section */
export const ok = (name, { data, stale, dropped, as_of }) =>
  [
    stale &&
      notice(`Stale: last good data, from ${formatTime(as_of)}. The upstream gave no new answer.`),
    !stale &&
      Date.now() - Date.parse(as_of) > SHOW_AGE_AFTER &&
      notice(`Cached since ${formatTime(as_of)}.`),
    dropped > 0 && notice(`${count(dropped, "invalid item")} left out.`),
    ...(RENDERERS[name] ?? json)(data),
  ].filter(Boolean);

/** @param {import("./api.js").Failure} error */
export const failed = ({ title, detail, reason, attempts, elapsed_ms, type }) => [
  h("p", { class: "error-title" }, title),
  h("p", {}, capitalize(detail)),
  definitions([
    ["Reason", type ? h("a", { href: serviceUrl(type) }, reason) : reason],
    ["Attempts", attempts],
    ["Failed after", elapsed_ms != null && ms(elapsed_ms)],
  ]),
];

export const skipped = (included) => [
  h(
    "p",
    { class: "muted" },
    included
      ? "Cancelled: the overview had already failed."
      : "Not included: no upstream call was made.",
  ),
];

export const skeleton = (name) => [
  h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: name === "todos" ? 8 : 6 }, () => h("span")),
  ),
];

function profile({ name, username, email, phone, website, address, company }) {
  return [
    h("p", { class: "name" }, name),
    definitions([
      ["Username", username],
      ["Email", email],
      ["Phone", phone],
      ["Website", website],
      ["Address", address && postal(address)],
      ["Company", company?.name],
    ]),
    company?.catchPhrase && h("p", { class: "muted" }, `“${company.catchPhrase}”`),
  ].filter(Boolean);
}

/** What is known of an address, in one line; null if that is nothing. */
function postal({ suite, street, zipcode, city }) {
  const place = [zipcode, city].filter(Boolean).join(" ");
  return [suite, street, place].filter(Boolean).join(", ") || null;
}

function posts(all) {
  return list("posts", all, ({ title, body }) => [h("h4", {}, title), h("p", {}, body)]);
}

function todos(all) {
  const done = all.filter(({ completed }) => completed).length;
  return [
    h("p", { class: "muted" }, `${done} of ${all.length} done`),
    ...list("todos", all, ({ title, completed }) => [
      icon(completed ? "ok" : "open"),
      h(
        "span",
        {},
        h("span", { class: "visually-hidden" }, completed ? "done: " : "to do: "),
        title,
      ),
    ]),
  ];
}

/** Data of a section that this page knows nothing of. */
const json = (data) => [h("pre", {}, JSON.stringify(data, null, 2))];

/** The first few items, and the others on demand. */
function list(name, all, render) {
  const items = all.map((item) => h("li", { "data-done": item.completed }, render(item)));
  const others = items.splice(INITIAL_ITEMS[name]);
  const shown = h("ul", { class: name }, items);
  if (!others.length) return [items.length ? shown : h("p", { class: "muted" }, `No ${name}.`)];
  return [
    shown,
    h("details", {}, h("summary", {}, `${others.length} more`), h("ul", { class: name }, others)),
  ];
}

const definitions = (pairs) =>
  h(
    "dl",
    {},
    pairs
      .filter(([, value]) => value != null && value !== false)
      .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );

const notice = (text) => h("p", { class: "notice" }, icon("warning"), text);

const formatTime = (instant) =>
  new Date(instant).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);
