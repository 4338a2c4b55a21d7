/** The waterfall as SVG, redrawn for every frame: it has few elements. */

import { s } from "./dom.js";
import { appearanceOf, captions, cells, INSTANTS, lanes, ms, totals } from "./timeline.js";

const LEFT = 60; // pixels for the sections' names
const RIGHT = 14;
const TOP = 30; // pixels for the axis, above the first lane
const LANE = 36;
const GAP = 8; // between sections
const HEIGHTS = { queue: 10, backoff: 6, hedge: 10, cache: 14, reconnect: 10 };
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
    const sectionLanes = lanes(timeline.filter(({ section }) => section === name));
    const row = s("g", {}, text(0, y + LANE / 2, name, "name"));
    if (!spans.has(name)) row.append(text(LEFT, y + LANE / 2, "not requested", "note"));
    for (const [index, lane] of sectionLanes.entries()) {
      row.append(...lane.flatMap((entry) => mark(entry, x, y + index * LANE, withMirror)));
    }
    y += sectionLanes.length * LANE + GAP;
    return row;
  });
  const [headingY, sequentialY, finishY] = [y, y + LANE, y + 2 * LANE];
  const height = y + 3 * LANE;

  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("height", height);
  svg.replaceChildren(
    axis(x, axisEnd, width, height),
    ...rows,
    text(LEFT, headingY + LANE / 2 + 2, "one after another", "note"),
    ...sequentialRow(spans, sections, x, sequentialY),
    finishLine(x(parallel), x(sequential), sequential - parallel, finishY),
  );
}

/** The mark of an entry, in the chart or in the legend. */
export function shape(appearance, x, y, width, attributes) {
  const height = HEIGHTS[appearance] ?? BAR;
  const isInstant = INSTANTS.includes(appearance);
  const markWidth = isInstant ? height : Math.max(width, 2);
  const left = isInstant ? x - height / 2 : x;
  const top = y + (LANE - height) / 2;
  const rotation = ["hedge", "reconnect"].includes(appearance) && { transform: `rotate(45 ${x} ${y + LANE / 2})` };
  const radius = appearance === "cache" ? height / 2 : Math.min(3, markWidth / 2);
  return s("rect", {
    class: `mark ${appearance}`,
    x: left,
    y: top,
    width: markWidth,
    height,
    rx: radius,
    fill: PATTERNED.includes(appearance) && `url(#fill-${appearance})`,
    ...rotation,
    ...attributes,
  });
}

function mark(entry, x, y, withMirror) {
  const { section, kind, start_ms, end_ms } = entry;
  const appearance = appearanceOf(entry);
  const from = x(start_ms);
  const width = x(end_ms) - from;
  const offset = kind === "hedge" ? LANE / 2 : 0; // between the lanes of the two attempts
  const rect = shape(appearance, from, y + offset, width, {
    "data-section": section,
    "data-kind": kind,
    "data-start": start_ms,
    "data-end": end_ms,
  });
  rect.append(s("title", {}, cells(entry).filter(Boolean).join(", ")));
  if (kind === "cache") return [rect, text(from + 14, y + LANE / 2, captions(entry)[0], "note")];
  if (HEIGHTS[appearance]) return [rect];
  return [rect, caption(captions(entry, withMirror), from, y, width, appearance)];
}

/** The longest of the captions that fits. */
function caption(candidates, x, y, width, appearance = "") {
  const fitting = candidates.find((label) => ruler.measureText(label).width < width - 10);
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

/** Marks when the answer was complete, and the time saved by calls in parallel. */
function finishLine(at, end, saved, y) {
  const line = s("line", { class: "finish", x1: at, x2: at, y1: TOP - 8, y2: y + LANE - 4 });
  if (saved < 1) return line;
  const label = `${ms(saved)} saved`;
  const room = ruler.measureText(label).width + 16;
  const fits = room + 16 < end - at;
  const middle = y + LANE / 2;
  return s(
    "g",
    {},
    line,
    text(fits ? at + 8 : at + 8 - room, middle, label, "saved"),
    end - at > 16 &&
      s("path", {
        class: "finish",
        d: `M${fits ? at + room : at} ${middle}H${end}m-5 -4l5 4l-5 4`,
      }),
  );
}

function axis(x, axisEnd, width, height) {
  const step = niceStep(axisEnd / (width / 110));
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

/** Rounds up to 1, 2, 5, 10, 20, 50, … */
function niceStep(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= value);
}

const text = (x, y, content, className) =>
  s("text", { class: className, x, y, dy: "0.35em" }, content);
