// A carriage return at the end of a chunk may be half of a CRLF that continues in the next chunk.
const LINE_END = /\r\n|\n|\r(?!$)/;

/** The lines of a stream, wherever its chunks are split. Leaving the loop closes the connection. */
export async function* lines(body: NonNullable<Response["body"]>): AsyncGenerator<string> {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const complete = (rest + value).split(LINE_END);
      rest = complete.pop() ?? "";
      yield* complete;
    }
    if (rest) yield rest.replace(/\r$/, "");
  } finally {
    await reader.cancel();
  }
}
