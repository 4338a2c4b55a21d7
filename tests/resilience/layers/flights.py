"""Coalesced calls, and an upstream that keeps to the leader's deadline."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from app.call import Answer, Call, Event, Fetch, Header
from app.errors import Failure, Timeout
from app.resilience.latency import Latency
from app.resilience.layers.coalesce import coalesce
from tests.fakes import a_call, a_context, an_answer, now


class EndsAtDeadline:
    """Takes `seconds`, but raises `late` at the deadline of the call, as the layers below do."""

    def __init__(self, seconds: float = 1.0, late: Failure | None = None) -> None:
        self.seconds = seconds
        self.late = late or Timeout("late")
        self.calls: list[Call] = []
        self.began: list[float] = []

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        self.began.append(now())
        number = len(self.began)
        left = call.context.deadline - now()
        await asyncio.sleep(min(self.seconds, left))
        if self.seconds >= left:
            raise self.late
        return an_answer(b"%d" % number)


def coalesced(
    upstream: Fetch, events: list[Event] | None = None, latency: Latency | None = None
) -> Fetch:
    return coalesce(latency or Latency(), ([] if events is None else events).append)(upstream)


def a_call_until(
    deadline: float,
    headers: Sequence[Header] = (),
    *,
    arrived: float = 0.0,
    no_cache: bool = False,
) -> Call:
    context = replace(
        a_context(deadline), headers=tuple(headers), arrived=arrived, no_cache=no_cache
    )
    return a_call(context)


async def in_flight(fetch: Fetch, *calls: Call) -> list[asyncio.Task[Answer]]:
    """Tasks of the calls, begun in this order."""

    async def run(call: Call) -> Answer:
        return await fetch(call)

    tasks = [asyncio.create_task(run(call)) for call in calls]
    await asyncio.sleep(0)
    return tasks
