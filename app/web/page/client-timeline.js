const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

/** The timeline that the page measures until the service reports one: one entry per section. */
export class ClientTimeline {
  #startTime = performance.now();
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
    return performance.now() - this.#startTime;
  }

  complete(section, outcome) {
    this.#completed.set(section, { end_ms: this.elapsed, outcome });
    if (reducedMotion.matches) this.#onChange(this.timeline());
  }

  /** Stops; sections that have not completed are `cancelled`. */
  stop() {
    cancelAnimationFrame(this.#frame);
    return this.timeline("cancelled");
  }

  timeline(pendingOutcome = "running") {
    const pending = { end_ms: this.elapsed, outcome: pendingOutcome };
    return this.#sections.map((section) => ({
      section,
      kind: "client",
      mirror: null,
      start_ms: 0,
      ...(this.#completed.get(section) ?? pending),
    }));
  }

  #tick() {
    this.#onChange(this.timeline());
    if (!reducedMotion.matches) this.#frame = requestAnimationFrame(() => this.#tick());
  }
}
