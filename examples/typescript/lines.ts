// A carriage return at the very end may be one half of a CRLF, whose other half is still to come.
const LINE_END = /\r\n|\n|\r(?!$)/;

/** The lines of a stream, wherever its chunks are split. To leave the loop is to hang up. */
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
