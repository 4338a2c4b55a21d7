import { SECTIONS } from "./api.js";
import { h, s } from "./dom.js";
import { draw, shape } from "./drawing.js";
import { appearanceOf, cells, INSTANTS, LEGEND, ms, totals } from "./timeline.js";

const AXIS_ENDS = [150, 300, 600, 1200, 2500, 5000, 10_000, 20_000];

/** The waterfall chart with its totals, its legend, and its entries as a table. */
export class Waterfall {
  #svg;
  #totals;
  #legend;
  #rows;
  #drawn = { timeline: [], axisEnd: AXIS_ENDS[0] };

  /** @param {HTMLElement} root  its element in index.html */
  constructor(root) {
    const [parallel, sequential] = root.querySelectorAll("[data-totals] strong");
    this.#totals = { parallel, sequential };
    this.#svg = root.querySelector("[data-waterfall]");
    this.#legend = root.querySelector("[data-legend]");
    this.#rows = root.querySelector("tbody");
    new ResizeObserver(() => this.#draw()).observe(this.#svg.parentElement);
  }

  /** Shows a timeline that still grows; the axis grows in steps, not with every frame. */
  showLive(timeline) {
    const { sequential } = this.#showTotals(timeline);
    this.#drawn = { timeline, axisEnd: AXIS_ENDS.find((time) => time > sequential) ?? sequential };
    this.#draw();
  }

  /** Shows a timeline that has ended. */
  showFinal(timeline) {
    const { parallel, sequential } = this.#showTotals(timeline);
    this.#drawn = { timeline, axisEnd: Math.max(parallel, sequential, 1) };
    this.#draw();
    this.#svg.setAttribute("aria-label", summary(timeline));
    this.#rows.replaceChildren(
      ...timeline.map((entry) => {
        const [section, ...others] = cells(entry);
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, section),
          others.map((cell) => h("td", {}, cell)),
        );
      }),
    );
    const appearances = new Set(timeline.map(appearanceOf));
    this.#legend.replaceChildren(
      ...Object.keys(LEGEND)
        .filter((appearance) => appearances.has(appearance))
        .map(legendItem),
    );
  }

  #showTotals(timeline) {
    const { parallel, sequential } = totals(timeline);
    this.#totals.parallel.textContent = ms(parallel);
    this.#totals.sequential.textContent = ms(sequential);
    return { parallel, sequential };
  }

  #draw() {
    const { timeline, axisEnd } = this.#drawn;
    const width = this.#svg.parentElement.clientWidth;
    if (width) draw(this.#svg, timeline, { sections: SECTIONS, width, axisEnd });
  }
}

function summary(timeline) {
  const { spans, parallel, sequential } = totals(timeline);
  const each = [...spans].map(
    ([name, { start, end }]) => `${name} from ${ms(start)} to ${ms(end)}`,
  );
  return `In parallel ${ms(parallel)}, one after another ${ms(sequential)}: ${each.join("; ")}.`;
}

const legendItem = (appearance) =>
  h(
    "li",
    {},
    s(
      "svg",
      { viewBox: "0 0 36 36", width: 28, height: 28, "aria-hidden": "true" },
      INSTANTS.includes(appearance) ? shape(appearance, 18, 0) : shape(appearance, 1, 0, 34),
    ),
    LEGEND[appearance],
  );
