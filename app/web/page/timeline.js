/**
 * When each attempt ran, as the service reports it (`explain=true`) or as the page measured it.
 *
 * @typedef {object} Entry
 * @property {string} section
 * @property {"attempt" | "queue" | "backoff" | "hedge" | "cache" | "shared" | "reconnect" | "client"} kind
 *   `client` is the page’s own: a section from the request to its completion
 * @property {number | null} mirror
 * @property {number} start_ms
 * @property {number} end_ms
 * @property {string | null} outcome  `running` is the page’s own too: not completed yet
 */

/** The text of each kind in the table. */
const KINDS = {
  attempt: "attempt",
  queue: "wait for a permit",
  backoff: "backoff before a retry",
  hedge: "hedge: another attempt starts",
  cache: "cache lookup",
  shared: "shared call in flight",
  reconnect: "sent once more, on a new connection",
  client: "section, measured by this page",
};

/** The appearances of entries, each with its text in the legend. */
export const LEGEND = {
  ok: "answered",
  running: "in progress",
  failed: "failed",
  cancelled: "cancelled: lost a race, or abandoned",
  queue: "waits for a permit",
  backoff: "backoff before a retry",
  hedge: "hedge: another attempt starts",
  cache: "answered from the cache",
  shared: "shares a call in flight",
  reconnect: "sent once more, on a new connection",
};

/** @param {Entry} entry @returns {keyof typeof LEGEND} */
export function appearanceOf({ kind, outcome }) {
  if (kind !== "attempt" && kind !== "client" && (kind !== "shared" || outcome === "ok"))
    return kind;
  return ["ok", "running", "cancelled"].includes(outcome) ? outcome : "failed";
}

/** Milliseconds with their unit. */
export const ms = (time) => `${time < 10 && time % 1 ? time.toFixed(1) : Math.round(time)} ms`;

/** An outcome as text, `bad_item` as “bad item”. A hedge is an instant and has no outcome. */
export const humanize = (outcome) => outcome?.replaceAll("_", " ") ?? "";

/** Appearances that are a moment, and not a span. */
export const INSTANTS = ["hedge", "cache", "reconnect"];

/** The cells of an entry’s table row. */
export const cells = ({ section, kind, mirror, start_ms, end_ms, outcome }) => [
  section,
  KINDS[kind] ?? kind,
  mirror === null ? "" : mirror + 1,
  ms(start_ms),
  ms(end_ms),
  ms(end_ms - start_ms),
  humanize(outcome),
];

/** The captions to choose from for an entry, the longest first. */
export function captions({ kind, mirror, start_ms, end_ms, outcome }, withMirror) {
  const name = withMirror && mirror !== null ? `mirror ${mirror + 1} · ` : "";
  const duration = ms(end_ms - start_ms);
  if (kind === "cache") return [`cache: ${outcome}`, outcome];
  if (kind === "shared") return [`shared · ${duration}`, "shared"];
  if (outcome === "ok" || outcome === "running") return [name + duration, duration];
  return [
    `${name}${humanize(outcome)} · ${duration}`,
    name + humanize(outcome),
    humanize(outcome),
    "×",
  ];
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

const TIMER_TOLERANCE = 2; // milliseconds

/**
 * Spreads entries over as few lanes as possible, so that none overlap. An instant (a hedge, a cache
 * lookup) takes no room and goes into the first lane.
 *
 * @param {Entry[]} entries  sorted by start
 * @returns {Entry[][]}
 */
export function lanes(entries) {
  const result = [[]];
  for (const entry of entries) {
    const fitsBeside = ({ start_ms, end_ms }) =>
      start_ms === end_ms ||
      entry.start_ms === entry.end_ms ||
      end_ms - entry.start_ms < TIMER_TOLERANCE;
    const lane = result.find((placed) => placed.every(fitsBeside));
    if (lane) lane.push(entry);
    else result.push([entry]);
  }
  return result;
}
