/** Something that the person at the page must be told: what happened, and what it means. */
export class Trouble extends Error {
  /** @param {{ retryable?: boolean, cause?: unknown }} [more] */
  constructor(title, message, { retryable = false, cause } = {}) {
    super(message, { cause });
    this.title = title;
    this.retryable = retryable;
  }
}

/** Anything thrown, as something that can be told. */
export const told = (error) =>
  error instanceof Trouble
    ? error
    : new Trouble("This page made a mistake", String(error?.message ?? error), { cause: error });

/** What JSON says. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Trouble("The answer cannot be read", cause.message, { cause });
  }
}
