/** What is inside a card: what is exported as a function returns a list of nodes. */

import { here } from "./api.js";
import { h, icon } from "./dom.js";
import { ms } from "./timeline.js";

/** What may have become of a section, or of a user in a batch, in words. */
export const STATES = {
  idle: "not requested",
  pending: "pending",
  ok: "ok",
  failed: "failed",
  skipped: "skipped",
  stopped: "stopped",
};

const AT_FIRST = { posts: 3, todos: 8 };
const NOT_FRESH = 5_000; // milliseconds after which the age of an answer matters

const INSIDE = { user: profile, posts, todos };

/** @param {import("./api.js").Section & { status: "ok" }} section */
export const ok = (name, { data, stale, dropped, as_of }) =>
  [
    stale &&
      notice(`Stale: last good data, from ${clock(as_of)}. The upstream gave no new answer.`),
    !stale && Date.now() - Date.parse(as_of) > NOT_FRESH && notice(`Stored since ${clock(as_of)}.`),
    dropped > 0 && notice(`${count(dropped, "item")} could not be read, and left out.`),
    ...INSIDE[name](data),
  ].filter(Boolean);

/** @param {import("./api.js").Failure} error */
export const failed = ({ title, detail, reason, attempts, elapsed_ms, type }) => [
  h("p", { class: "error-title" }, title),
  h("p", {}, sentence(detail)),
  facts([
    ["Reason", type ? h("a", { href: here(type) }, reason) : reason],
    ["Attempts", attempts],
    ["Gave up after", elapsed_ms != null && ms(elapsed_ms)],
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
    facts([
      ["Known as", username],
      ["Mail", email],
      ["Phone", phone],
      ["Site", website],
      [
        "Address",
        address && `${address.suite}, ${address.street}, ${address.zipcode} ${address.city}`,
      ],
      ["Works for", company?.name],
    ]),
    company && h("p", { class: "muted" }, `“${company.catchPhrase}”`),
  ].filter(Boolean);
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

/** The first few, and the others on demand. */
function list(name, all, inside) {
  const items = all.map((item) => h("li", { "data-done": item.completed }, inside(item)));
  const others = items.splice(AT_FIRST[name]);
  const shown = h("ul", { class: name }, items);
  if (!others.length) return [items.length ? shown : h("p", { class: "muted" }, `No ${name}.`)];
  return [
    shown,
    h("details", {}, h("summary", {}, `${others.length} more`), h("ul", { class: name }, others)),
  ];
}

const facts = (pairs) =>
  h(
    "dl",
    {},
    pairs
      .filter(([, value]) => value != null && value !== false)
      .map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))),
  );

const notice = (words) => h("p", { class: "notice" }, icon("warning"), words);

const clock = (instant) =>
  new Date(instant).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);
