"""A real browser's `EventSource`, left open after the last event: it must end, and stay ended."""

from acceptance.browser.visit import Visit

LEFT_OPEN = """
(path) => new Promise((resolve) => {
  const seen = {sections: 0, done: 0, opened: 0};
  const source = new EventSource(path);
  source.addEventListener("open", () => { seen.opened += 1; });
  source.addEventListener("section", () => { seen.sections += 1; });
  source.addEventListener("done", () => { seen.done += 1; });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => resolve(seen), 500);
    }
  });
})
"""


def test_an_event_source_that_is_left_open_ends_after_done(visit: Visit) -> None:
    visit.page.goto(f"{visit.origin}/docs")
    path = f"{visit.origin}/v1/users/1/overview?timeout_ms=1500"
    seen = visit.page.evaluate(LEFT_OPEN, path)
    assert seen == {"sections": 3, "done": 1, "opened": 1}
    asked = [url for url in visit.requests if url == path]
    assert len(asked) == 2, "the request, and the one that is answered 204"
