/**
 * When each attempt ran, as the service reports it (`explain=true`) or as the page measured it.
 *
 * @typedef {object} Entry
 * @property {string} section
 * @property {"attempt" | "queue" | "backoff" | "hedge" | "cache" | "shared" | "client"} kind
 *   `client` is the page’s own: a section from the request to its completion
 * @property {number | null} mirror
 * @property {number} start_ms
 * @property {number} end_ms
 * @property {string | null} outcome  `running` is the page’s own too: not completed yet
 */

const WHAT = {
  attempt: "attempt",
  queue: "wait for a permit",
  backoff: "pause before a retry",
  hedge: "another attempt goes out",
  cache: "cache lookup",
  shared: "share of a call in flight",
  client: "section, measured by this page",
};

/** The appearances of entries, each with its text in the legend. */
export const LEGEND = {
  ok: "answered",
  running: "in progress",
  failed: "failed",
  cancelled: "cancelled: lost a race, or given up",
  queue: "waits for a permit",
  backoff: "pauses before a retry",
  hedge: "another attempt goes out",
  cache: "answered from the cache",
  shared: "shares a call in flight",
};

/** @param {Entry} entry @returns {keyof typeof LEGEND} */
export function appearanceOf({ kind, outcome }) {
  if (kind !== "attempt" && kind !== "client" && (kind !== "shared" || outcome === "ok"))
    return kind;
  return ["ok", "running", "cancelled"].includes(outcome) ? outcome : "failed";
}

/** Milliseconds in words. */
export const ms = (time) => `${time < 10 && time % 1 ? time.toFixed(1) : Math.round(time)} ms`;

/** An outcome in words. A hedge has none: nothing can end there. */
export const plain = (outcome) => outcome?.replaceAll("_", " ") ?? "";

/** The cells of an entry’s row in the table. */
export const cells = ({ section, kind, mirror, start_ms, end_ms, outcome }) => [
  section,
  WHAT[kind] ?? kind,
  mirror === null ? "" : mirror + 1,
  ms(start_ms),
  ms(end_ms),
  ms(end_ms - start_ms),
  plain(outcome),
];

/** What can stand in or beside an entry, the longest first. */
export function captions({ kind, mirror, start_ms, end_ms, outcome }, withMirror) {
  const name = withMirror && mirror !== null ? `mirror ${mirror + 1} · ` : "";
  const took = ms(end_ms - start_ms);
  if (kind === "cache") return [`cache: ${outcome}`, outcome];
  if (kind === "shared") return [`shared · ${took}`, "shared"];
  if (outcome === "ok" || outcome === "running") return [name + took, took];
  return [`${name}${plain(outcome)} · ${took}`, name + plain(outcome), plain(outcome), "×"];
}

/**
 * When each section started and ended, and the milliseconds that all sections took in parallel and
 * would have taken one after another.
 *
 * @param {Entry[]} timeline
 */
export function totals(timeline) {
  const spans = new Map();
  for (const { section, start_ms, end_ms } of timeline) {
    const { start, end } = spans.get(section) ?? { start: start_ms, end: end_ms };
    spans.set(section, { start: Math.min(start, start_ms), end: Math.max(end, end_ms) });
  }
  const all = [...spans.values()];
  return {
    spans,
    parallel: Math.max(0, ...all.map(({ end }) => end)),
    sequential: all.reduce((sum, { start, end }) => sum + end - start, 0),
  };
}

const INEXACT = 2; // milliseconds by which timers are early or late

/**
 * Entries in as few lanes as let no two overlap. A moment takes no room: it is a mark in the first.
 *
 * @param {Entry[]} entries  by start
 * @returns {Entry[][]}
 */
export function lanes(entries) {
  const all = [[]];
  for (const entry of entries) {
    const free = ({ start_ms, end_ms }) =>
      start_ms === end_ms || entry.start_ms === entry.end_ms || end_ms - entry.start_ms < INEXACT;
    const lane = all.find((taken) => taken.every(free));
    if (lane) lane.push(entry);
    else all.push([entry]);
  }
  return all;
}
