"""Stand-ins at the seams: calls without a client, and fetches without an upstream."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from app.resilience.call import Answer, Call, Context, Data, Fetch, Question
from tests.clock import VirtualLoop


def on_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on a virtual clock of its own, as a property test does for each example."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def a_context(deadline: float = 10.0, fan_out: int = 10) -> Context:
    """Made afresh for each client request; `deadline` counts from the start of the loop."""
    return Context(deadline=deadline, fan_out=asyncio.Semaphore(fan_out), request_id="test")


def a_question(upstream: str = "posts") -> Question:
    return Question(upstream, f"/{upstream}", Data)


def a_call(context: Context | None = None, upstream: str = "posts") -> Call:
    return Call(a_question(upstream), context or a_context())


def an_answer(json: bytes = b"[]", *, dropped: int = 0, fresh_for: float = 0.0) -> Answer:
    return Answer(Data(json, dropped), as_of=1_700_000_000.0, fresh_for=fresh_for)


class FakeUpstream:
    """A fetch that takes `seconds` and ends as told; it remembers who was there and when."""

    def __init__(self, seconds: float = 0.0, ending: Exception | None = None) -> None:
        self.seconds = seconds
        self.ending = ending
        self.began: list[float] = []
        self.in_flight = 0
        self.most = 0
        self.cancelled = 0

    async def __call__(self, call: Call) -> Answer:
        self.began.append(now())
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        if self.ending is not None:
            raise self.ending
        return an_answer()


async def ending(of: Awaitable[object]) -> object:
    """What `of` gives or raises, as a value."""
    (end,) = await asyncio.gather(of, return_exceptions=True)
    return end


def begun(fetch: Fetch) -> Fetch:
    """As `fetch`, but counted as an attempt."""

    async def counted(call: Call) -> Answer:
        call.tally.attempts += 1
        return await fetch(call)

    return counted
