import { button, h } from "./dom.js";

const MAX_AUTOMATIC_RETRIES = 3;
const MIN_DELAY = 3; // seconds before the first automatic retry; each further one doubles it

/** The footer of a failed card: retries automatically after a delay, or at once by its button. */
export class Retry {
  element;
  #onRetry;
  #status = h("p");
  #retryButton;
  #stopButton;
  #automaticRetries = 0;
  #timer;

  /** @param {() => void} onRetry */
  constructor(name, onRetry) {
    this.#onRetry = onRetry;
    this.#retryButton = button(`Retry ${name} now`, () => this.#retry());
    this.#stopButton = button("Stop", () => this.#stop(), {
      "aria-label": `Stop retrying ${name}`,
    });
    this.element = h("footer", { hidden: true }, this.#status, this.#retryButton, this.#stopButton);
  }

  /** @param {import("./api.js").Failure} error */
  show({ retryable, retry_after }) {
    this.element.hidden = false;
    this.#retryButton.removeAttribute("aria-disabled");
    if (!retryable) {
      this.#cancelCountdown("A retry is unlikely to help.");
    } else if (this.#automaticRetries >= MAX_AUTOMATIC_RETRIES) {
      this.#cancelCountdown("There are no more automatic retries.");
    } else {
      const delay = Math.max(retry_after ?? 0, MIN_DELAY) * 2 ** this.#automaticRetries;
      this.#countDown(Math.ceil(delay));
    }
  }

  /** Hides the footer and resets the count of automatic retries. */
  reset() {
    clearTimeout(this.#timer);
    this.element.hidden = true;
    this.#automaticRetries = 0;
  }

  #countDown(seconds) {
    this.#stopButton.hidden = false;
    this.#status.textContent = `Retries automatically in ${seconds} s`;
    this.#timer = setTimeout(() => {
      if (seconds > 1) return this.#countDown(seconds - 1);
      this.#automaticRetries += 1;
      this.#retry();
    }, 1000);
  }

  #retry() {
    if (this.#retryButton.ariaDisabled) return;
    this.#cancelCountdown("Retrying …");
    this.#retryButton.setAttribute("aria-disabled", true);
    this.#onRetry();
  }

  #stop() {
    this.#automaticRetries = MAX_AUTOMATIC_RETRIES;
    this.#cancelCountdown("Automatic retries are stopped.");
    this.#retryButton.focus();
  }

  #cancelCountdown(status) {
    clearTimeout(this.#timer);
    if (document.activeElement === this.#stopButton) this.#retryButton.focus();
    this.#stopButton.hidden = true;
    this.#status.textContent = status;
  }
}
