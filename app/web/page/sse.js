import { lines } from "./lines.js";

/**
 * The events of a `text/event-stream`, as the HTML standard reads them: data of several lines is
 * joined, comments are passed over, an event that was not ended by an empty line does not count.
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
