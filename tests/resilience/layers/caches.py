"""A cache layer, the policies that it uses, and calls to it."""

import asyncio
from dataclasses import dataclass, field, replace

from app.call import Answer, Call, Event, Fetch
from app.resilience.layers.cache import Cached
from app.resilience.store import Store
from app.tasks import BackgroundTasks
from tests.fakes import a_call, a_context, an_answer


@dataclass
class Cache:
    """A cache above `upstream`. A refresh may take 3 s."""

    upstream: Fetch
    store: Store = field(default_factory=lambda: Store(50_000))
    background: BackgroundTasks = field(default_factory=BackgroundTasks)
    events: list[Event] = field(default_factory=list)
    fetch: Cached = field(init=False)

    def __post_init__(self) -> None:
        self.fetch = Cached(
            self.upstream, self.store, self.background, self.events.append, refresh_timeout=3.0
        )


def a_call_from(client: bytes = b"", *, no_cache: bool = False, no_store: bool = False) -> Call:
    """A call with a near deadline and a fan-out of one, which a refresh must not take over."""
    headers = ((b"authorization", client),) if client else ()
    context = replace(
        a_context(0.1, fan_out=1), headers=headers, no_cache=no_cache, no_store=no_store
    )
    return a_call(context)


class Scripted:
    """Attempts take `seconds` and end as the next of `ends`; after the last with an answer."""

    def __init__(self, *ends: Answer | Exception, seconds: float = 0.5) -> None:
        self._ends = list(ends)
        self.seconds = seconds
        self.calls: list[Call] = []
        self.in_flight = 0

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        self.in_flight += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        end = self._ends.pop(0) if self._ends else an_answer(b"unexpected")
        if isinstance(end, Exception):
            raise end
        return end


def a_cache_of(stored: Answer, *ends: Answer | Exception) -> tuple[Cache, Scripted]:
    """A cache in which the answer is stored, and an upstream whose attempts end as `ends`."""
    upstream = Scripted(*ends)
    cache = Cache(upstream)
    cache.store.put(a_call_from().key, stored)
    return cache, upstream
