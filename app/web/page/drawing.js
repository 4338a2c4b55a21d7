/** The waterfall as SVG. It is drawn anew for every frame: there is little of it. */

import { s } from "./dom.js";
import { appearanceOf, captions, cells, lanes, ms, totals } from "./timeline.js";

const LEFT = 60; // of the plot: the sections' names
const RIGHT = 14;
const TOP = 30; // of the first lane: the scale
const LANE = 36;
const GAP = 8; // between sections
const HEIGHTS = { queue: 10, backoff: 6, hedge: 10, cache: 14 };
const BAR = 26;
const PATTERNED = ["failed", "cancelled", "queue", "shared"];

const ruler = document.createElement("canvas").getContext("2d");

/**
 * @param {SVGSVGElement} svg
 * @param {import("./timeline.js").Entry[]} timeline
 * @param {{ sections: string[], width: number, axisEnd: number }} frame
 *   `axisEnd`: milliseconds at the right edge
 */
export function draw(svg, timeline, { sections, width, axisEnd }) {
  const { fontSize, fontFamily } = getComputedStyle(svg);
  ruler.font = `600 ${fontSize} ${fontFamily}`;
  const x = (time) => LEFT + (time / axisEnd) * (width - LEFT - RIGHT);
  const { spans, parallel, sequential } = totals(timeline);
  const withMirror =
    new Set(timeline.map(({ mirror }) => mirror).filter(Number.isInteger)).size > 1;

  let y = TOP;
  const rows = sections.map((name) => {
    const placed = lanes(timeline.filter(({ section }) => section === name));
    const row = s("g", {}, text(0, y + LANE / 2, name, "name"));
    if (!spans.has(name)) row.append(text(LEFT, y + LANE / 2, "not requested", "aside"));
    for (const [index, lane] of placed.entries()) {
      row.append(...lane.flatMap((entry) => mark(entry, x, y + index * LANE, withMirror)));
    }
    y += placed.length * LANE + GAP;
    return row;
  });
  const [heading, turns, end] = [y, y + LANE, y + 2 * LANE];
  const height = y + 3 * LANE;

  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren(
    scale(x, axisEnd, width, height),
    ...rows,
    text(LEFT, heading + LANE / 2 + 2, "one after another", "aside"),
    ...sequentialRow(spans, sections, x, turns),
    finish(x(parallel), x(sequential), sequential - parallel, end),
  );
}

/** One entry, alone or in the legend. */
export function shape(appearance, x, y, width, attributes) {
  const height = HEIGHTS[appearance] ?? BAR;
  const moment = appearance === "hedge" || appearance === "cache";
  const breadth = moment ? height : Math.max(width, 2);
  const left = moment ? x - height / 2 : x;
  const top = y + (LANE - height) / 2;
  const turn = appearance === "hedge" && { transform: `rotate(45 ${x} ${y + LANE / 2})` };
  const round = appearance === "cache" ? height / 2 : Math.min(3, breadth / 2);
  return s("rect", {
    class: `mark ${appearance}`,
    x: left,
    y: top,
    width: breadth,
    height,
    rx: round,
    fill: PATTERNED.includes(appearance) && `url(#fill-${appearance})`,
    ...turn,
    ...attributes,
  });
}

function mark(entry, x, y, withMirror) {
  const { section, kind, start_ms, end_ms } = entry;
  const appearance = appearanceOf(entry);
  const from = x(start_ms);
  const width = x(end_ms) - from;
  const between = kind === "hedge" ? LANE / 2 : 0; // the lane of the first attempt and of the other
  const rect = shape(appearance, from, y + between, width, {
    "data-section": section,
    "data-kind": kind,
    "data-start": start_ms,
    "data-end": end_ms,
  });
  rect.append(s("title", {}, cells(entry).filter(Boolean).join(", ")));
  if (kind === "cache") return [rect, text(from + 14, y + LANE / 2, captions(entry)[0], "aside")];
  if (HEIGHTS[appearance]) return [rect];
  return [rect, caption(captions(entry, withMirror), from, y, width, appearance)];
}

/** The longest of the captions that fits. */
function caption(candidates, x, y, width, appearance = "") {
  const fitting = candidates.find((words) => ruler.measureText(words).width < width - 10);
  return fitting ? text(x + 6, y + LANE / 2, fitting, `caption ${appearance}`) : "";
}

function sequentialRow(spans, sections, x, y) {
  let time = 0;
  return sections
    .filter((name) => spans.has(name))
    .flatMap((name) => {
      const { start, end } = spans.get(name);
      const from = x(time);
      time += end - start;
      const width = x(time) - from;
      const rect = shape("sequential", from, y, width, {
        "data-section": name,
        "data-kind": "sequential",
      });
      return [rect, caption([name], from, y, width, "sequential")];
    });
}

/** Where the answer was complete, and what that saved. */
function finish(at, end, saved, y) {
  const line = s("line", { class: "finish", x1: at, x2: at, y1: TOP - 8, y2: y + LANE - 4 });
  if (saved < 1) return line;
  const words = `${ms(saved)} saved`;
  const room = ruler.measureText(words).width + 16;
  const fits = room + 16 < end - at;
  const level = y + LANE / 2;
  return s(
    "g",
    {},
    line,
    text(fits ? at + 8 : at + 8 - room, level, words, "saved"),
    end - at > 16 &&
      s("path", { class: "finish", d: `M${fits ? at + room : at} ${level}H${end}m-5 -4l5 4l-5 4` }),
  );
}

function scale(x, axisEnd, width, height) {
  const step = round(axisEnd / (width / 110));
  const ticks = Array.from({ length: Math.floor(axisEnd / step) + 1 }, (_, index) => index * step);
  return s(
    "g",
    {},
    ticks.flatMap((time) => [
      s("line", { class: "grid", x1: x(time), x2: x(time), y1: TOP - 8, y2: height - LANE - 4 }),
      text(x(time), 10, ms(time), time && x(time) > width - RIGHT - 40 ? "tick last" : "tick"),
    ]),
  );
}

/** The next of 1, 2, 5, 10, 20, 50, … */
function round(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= value);
}

const text = (x, y, words, kind) => s("text", { class: kind, x, y, dy: "0.35em" }, words);
