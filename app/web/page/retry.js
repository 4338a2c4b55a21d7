import { button, h } from "./dom.js";

const AUTOMATIC = 3; // times
const PAUSE = 3; // seconds, at least, and twice as long each time

/** The foot of a failed card: asks again after a while, or at once, unless told to stop. */
export class Retry {
  element;
  #again;
  #words = h("p");
  #now;
  #stop;
  #made = 0;
  #timer;

  /** @param {() => void} again */
  constructor(name, again) {
    this.#again = again;
    this.#now = button(`Retry ${name} now`, () => this.#go());
    this.#stop = button("Stop", () => this.#giveUp(), { "aria-label": `Stop retrying ${name}` });
    this.element = h("footer", { hidden: true }, this.#words, this.#now, this.#stop);
  }

  /** @param {import("./api.js").Failure} error */
  offer({ retryable, retry_after }) {
    this.element.hidden = false;
    this.#now.removeAttribute("aria-disabled");
    if (!retryable) this.#rest("A retry is unlikely to help.");
    else if (this.#made >= AUTOMATIC) this.#rest("There are no more automatic retries.");
    else this.#countDown(Math.ceil(Math.max(retry_after ?? 0, PAUSE) * 2 ** this.#made));
  }

  /** Hides the footer and forgets earlier retries. */
  withdraw() {
    clearTimeout(this.#timer);
    this.element.hidden = true;
    this.#made = 0;
  }

  #countDown(seconds) {
    this.#stop.hidden = false;
    this.#words.textContent = `Retries automatically in ${seconds} s`;
    this.#timer = setTimeout(() => {
      if (seconds > 1) return this.#countDown(seconds - 1);
      this.#made += 1;
      this.#go();
    }, 1000);
  }

  #go() {
    if (this.#now.ariaDisabled) return;
    this.#rest("Retrying …");
    this.#now.setAttribute("aria-disabled", true);
    this.#again();
  }

  #giveUp() {
    this.#made = AUTOMATIC;
    this.#rest("Automatic retries are stopped.");
    this.#now.focus();
  }

  #rest(words) {
    clearTimeout(this.#timer);
    if (document.activeElement === this.#stop) this.#now.focus();
    this.#stop.hidden = true;
    this.#words.textContent = words;
  }
}
