const still = matchMedia("(prefers-reduced-motion: reduce)");

/** A timeline as seen from here, while nothing better is known: one entry a section. */
export class Live {
  #began = performance.now();
  #completed = new Map();
  #sections;
  #onChange;
  #frame = 0;

  /**
   * @param {string[]} sections  the included ones
   * @param {(timeline: import("./timeline.js").Entry[]) => void} onChange
   *   called at each frame; with reduced motion only when a section completes
   */
  constructor(sections, onChange) {
    this.#sections = sections;
    this.#onChange = onChange;
    this.#tick();
  }

  get elapsed() {
    return performance.now() - this.#began;
  }

  complete(section, outcome) {
    this.#completed.set(section, { end_ms: this.elapsed, outcome });
    if (still.matches) this.#onChange(this.timeline());
  }

  /** Stops; sections that have not completed are `cancelled`. */
  stop() {
    cancelAnimationFrame(this.#frame);
    return this.timeline("cancelled");
  }

  timeline(otherwise = "running") {
    const now = { end_ms: this.elapsed, outcome: otherwise };
    return this.#sections.map((section) => ({
      section,
      kind: "seen",
      mirror: null,
      start_ms: 0,
      ...(this.#completed.get(section) ?? now),
    }));
  }

  #tick() {
    this.#onChange(this.timeline());
    if (!still.matches) this.#frame = requestAnimationFrame(() => this.#tick());
  }
}
