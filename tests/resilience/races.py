"""Mirrors whose attempts end as scripted, and what is left of a call to them: nothing."""

import asyncio
import gc
from collections.abc import Awaitable
from typing import Any, Literal

from app.call import Answer, Call, Event, Fetch
from app.errors import CircuitOpen, NotFound, Unreachable, UpstreamStatus
from app.resilience.budget import RetryBudget
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.race import race
from app.resilience.mirrors import RoundRobin
from tests.fakes import an_answer, now, result_or_error

BROKEN = Unreachable("broken")
ABSENT = NotFound("there is no such resource")
REFUSED = UpstreamStatus(400)
BUG = ZeroDivisionError("a bug")

Hedge = float | Literal["auto"]


class Mirror:
    """Each attempt ends as the next of `ends`: after seconds, with an error or without.

    The last one repeats. A cancelled attempt takes `closing` seconds to end.
    """

    def __init__(self, *ends: tuple[float, BaseException | None], closing: float = 0.0) -> None:
        self._ends = list(ends)
        self._closing = closing
        self.answer = an_answer(b"%d" % id(self))
        self.began: list[float] = []
        self.closed = 0

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        seconds, error = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if self._closing:
                await asyncio.sleep(self._closing)
            self.closed += 1
            raise
        if error is not None:
            raise error
        return self.answer


def an_open_circuit(retry_after: float = 1.0) -> Mirror:
    return Mirror((0.0, CircuitOpen("resting", retry_after=retry_after)))


def attempts_of(*mirrors: Mirror) -> list[list[float]]:
    """When the attempts of each mirror began."""
    return [mirror.began for mirror in mirrors]


def racing(
    *mirrors: Fetch,
    hedge: Hedge = 1.0,
    budget: RetryBudget | None = None,
    failures: KeyFailures | None = None,
    latency: Latency | None = None,
    events: list[Event] | None = None,
) -> Fetch:
    return race(
        mirrors,
        hedge,
        RoundRobin(len(mirrors), now),
        budget or RetryBudget(0.2),
        KeyFailures() if failures is None else failures,
        latency or Latency(),
        ([] if events is None else events).append,
    )


async def result_leaving_nothing(of: Awaitable[object], *cancel_after: float) -> object:
    """The result of `of`, or its exception. It leaves no task and no unhandled exception behind.

    It is cancelled after so many seconds, and again after so many more.
    """
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(of)
    for seconds in cancel_after:
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
    result = await result_or_error(task)
    assert asyncio.all_tasks() == before
    del task
    gc.collect(1)
    assert unhandled == []
    return result
