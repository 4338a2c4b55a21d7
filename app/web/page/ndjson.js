import { lines } from "./lines.js";
import { parseJson } from "./client-error.js";

/**
 * The values of an `application/x-ndjson` stream, one per line.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<unknown>}
 */
export async function* values(stream) {
  for await (const line of lines(stream)) {
    if (line.trim()) yield parseJson(line);
  }
}
