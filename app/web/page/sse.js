import { lines } from "./lines.js";

/**
 * Parses a `text/event-stream` as the HTML standard does: several `data` lines are joined, comments
 * are ignored, and an event without its closing empty line is discarded.
 * (`EventSource` cannot send headers, and would reconnect after `done`.)
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @returns {AsyncGenerator<{event: string, data: string}>}
 */
export async function* events(stream) {
  let event = "";
  let data = [];
  for await (const line of lines(stream)) {
    if (line === "") {
      if (data.length) yield { event: event || "message", data: data.join("\n") };
      event = "";
      data = [];
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line);
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
}
