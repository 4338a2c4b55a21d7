import { lines } from "./lines.ts";

export interface ServerSentEvent {
  event: string;
  data: string;
}

/**
 * Parses a `text/event-stream` as the HTML standard does: several `data` lines are joined, comments
 * are ignored, and an event without its closing empty line is discarded.
 * (An `EventSource` cannot send headers, and would reconnect after `done`.)
 */
export async function* serverSentEvents(
  body: NonNullable<Response["body"]>,
): AsyncGenerator<ServerSentEvent> {
  let event = "";
  let data: string[] = [];
  for await (const line of lines(body)) {
    if (line === "") {
      if (data.length) yield { event: event || "message", data: data.join("\n") };
      event = "";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
}
