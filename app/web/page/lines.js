import { ClientError } from "./client-error.js";

/**
 * The lines of a UTF-8 stream, ended by LF, CRLF or CR, wherever its chunks are split. Leaving the
 * loop cancels the stream.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<string>}
 */
export async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let afterCR = false; // a line feed that follows belongs to the same line end
  try {
    for (;;) {
      const { value, done } = await reader.read().catch(throwConnectionLost);
      if (done) break;
      rest += afterCR ? value.replace(/^\n/, "") : value;
      afterCR = value.endsWith("\r");
      const complete = rest.split(/\r\n|\r|\n/);
      rest = complete.pop();
      yield* complete;
    }
    if (rest) yield rest;
  } finally {
    reader.cancel().catch(() => {}); // the stream may have ended already
  }
}

function throwConnectionLost(cause) {
  throw new ClientError(
    "The connection was lost",
    "The answer ended before it was complete. Everything that arrived before is shown.",
    { retryable: true, cause },
  );
}
