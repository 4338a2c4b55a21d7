"""Fakes at the seams: calls without a client, and fetches without an upstream."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from app.call import (
    UNCACHEABLE,
    Admission,
    Answer,
    CachePolicy,
    Call,
    Context,
    Data,
    Fetch,
    Question,
)
from app.composition.view import Section, View
from tests.clock import VirtualLoop


def on_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on a new virtual clock: a property test needs one for each example."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def now() -> float:
    return asyncio.get_running_loop().time()


def a_context(deadline: float = 10.0, fan_out: int = 10) -> Context:
    """The context of a new client request. `deadline` counts from the start of the loop."""
    return Context(deadline=deadline, fan_out=asyncio.Semaphore(fan_out), request_id="test")


def a_shed_context(overload_wait: float) -> Context:
    """The context of a request that was shed."""
    admission = Admission(decided=True, overload_wait=overload_wait)
    return replace(a_context(), admission=admission)


def a_question(upstream: str = "posts") -> Question:
    return Question(upstream, f"/{upstream}", Data)


A_VIEW = View(
    name="overview",
    path="/v1/users/{user_id}/overview",
    batch="/v1/overviews",
    identifier="user_id",
    identifier_type=int,
    sections={
        "user": Section(dict, lambda _: a_question("user"), {}),
        "posts": Section(list, lambda _: a_question("posts"), []),
        "todos": Section(list, lambda _: a_question("todos"), []),
    },
)
"""A view for tests. It shares no code with the real one."""


def a_call(context: Context | None = None, upstream: str = "posts") -> Call:
    return Call(a_question(upstream), context or a_context())


def an_answer(
    json: bytes = b"[]",
    *,
    dropped: int = 0,
    stale: bool = False,
    cache_policy: CachePolicy = UNCACHEABLE,
    requested_at: float = 0.0,
) -> Answer:
    data = Data(json, dropped, digest=json)
    return Answer(data, 1_700_000_000.0, cache_policy, stale, requested_at)


def a_cache_policy(
    fresh_until: float,
    while_revalidate: float = 0.0,
    if_error: float = 0.0,
    etag: bytes | None = None,
) -> CachePolicy:
    """`fresh_until` is an instant of the loop's clock; the stale windows are seconds after it."""
    validators = () if etag is None else ((b"If-None-Match", etag),)
    return CachePolicy(
        fresh_until, fresh_until + while_revalidate, fresh_until + if_error, validators
    )


class FakeUpstream:
    """A fetch that takes `seconds` and raises `error`, if there is one; it records its calls."""

    def __init__(self, seconds: float = 0.0, error: Exception | None = None) -> None:
        self.seconds = seconds
        self.error = error
        self.began: list[float] = []
        self.in_flight = 0
        self.max_in_flight = 0
        self.cancelled = 0

    async def __call__(self, call: Call) -> Answer:
        self.began.append(now())
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
        if self.error is not None:
            raise self.error
        return an_answer()


async def result_or_error(of: Awaitable[object]) -> object:
    """The result of `of`, or the exception that it raises."""
    (result,) = await asyncio.gather(of, return_exceptions=True)
    return result


def counting_attempts(fetch: Fetch) -> Fetch:
    """`fetch`, which also counts an attempt on the call."""

    async def counted(call: Call) -> Answer:
        call.tally.attempts += 1
        return await fetch(call)

    return counted


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Fail if the code inside leaves a task behind, or an exception that nobody retrieved."""
    loop, before, unhandled = asyncio.get_running_loop(), asyncio.all_tasks(), list[object]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    gc.freeze()  # the collection below then has only new objects to go through
    try:
        yield
        await asyncio.sleep(0)
        gc.collect()
        assert asyncio.all_tasks() <= before
        assert unhandled == []
    finally:
        gc.unfreeze()
        loop.set_exception_handler(handler)
