/** An error to show on the page: `title` says what happened, `message` what it means. */
export class ClientError extends Error {
  /** @param {{ retryable?: boolean, cause?: unknown }} [options] */
  constructor(title, message, { retryable = false, cause } = {}) {
    super(message, { cause });
    this.title = title;
    this.retryable = retryable;
  }
}

/** Wraps anything thrown, unless it is a `ClientError` already. */
export const toClientError = (error) =>
  error instanceof ClientError
    ? error
    : new ClientError("Unexpected error on this page", String(error?.message ?? error), {
        cause: error,
      });

/** Parses JSON; invalid JSON is a `ClientError`. */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ClientError("The answer cannot be read", cause.message, { cause });
  }
}
