"""A pipeline of all layers, and calls to it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.call import Answer, Call, Event, Exchange, Fetch, Reply
from app.errors import UpstreamStatus
from app.resilience.pipeline import Upstream, pipeline
from app.resilience.store import Store
from app.settings import UpstreamSettings
from tests.fakes import a_context, a_question, now

BUSY = UpstreamStatus(503, retry_after=1.0)


def a_pipeline(*mirrors: Fetch, events: list[Event] | None = None, **settings: Any) -> Upstream:
    """Without retries, unless `settings` say otherwise."""
    return pipeline(
        [replying(mirror) for mirror in mirrors],
        UpstreamSettings(**({"retries": 0} | settings)),
        store=Store(),
        decoding=asyncio.Lock(),
        request_timeout=3.0,
        emit=([] if events is None else events).append,
        clock=asyncio.get_running_loop().time,
    )


def replying(mirror: Fetch) -> Exchange:
    """The exchange with a mirror whose small replies become the answers that it gives."""

    async def exchange(call: Call) -> Reply:
        answer = await mirror(call)
        return Reply(len(answer.data.json), lambda: answer)

    return exchange


def a_call_about(number: int, deadline: float = 10.0) -> Call:
    """Calls about different numbers are not equal."""
    return Call(replace(a_question(), target=f"/posts/{number}"), a_context(deadline))


@dataclass
class Scripted:
    """Attempts take `seconds` and end as the next of `ends`; the last one repeats."""

    ends: list[Answer | Exception]
    seconds: float = 0.0
    began: list[float] = field(default_factory=list)

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        await asyncio.sleep(self.seconds)
        if isinstance(end, Exception):
            raise end
        return end


def of_kind(kind: type[Event], events: Sequence[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def open_breaker(upstream: Upstream, mirror: int = 0) -> None:
    breaker = upstream.breakers[mirror]
    while (permit := breaker.try_acquire(now())) is not None:
        breaker.on_failure(permit, now())
