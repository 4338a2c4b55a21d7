"""The order of the layers. This file is the one place that knows it.

To remove a layer, delete its file, and here its import and its entry.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from time import perf_counter
from typing import TypeVar

from app.call import Answer, CachedFetch, Call, Emit, Exchange, Fetch
from app.resilience.breaker import Breaker
from app.resilience.budget import RetryBudget
from app.resilience.bulkhead import Bulkhead
from app.resilience.decoding import decoded
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.cache import cache
from app.resilience.layers.circuit_breaker import circuit_breaker
from app.resilience.layers.coalesce import coalesce
from app.resilience.layers.limit import limit
from app.resilience.layers.measure import measure
from app.resilience.layers.quarantine import quarantine
from app.resilience.layers.race import race
from app.resilience.layers.retry import retry
from app.resilience.layers.shed import shed
from app.resilience.layers.timeout import timeout
from app.resilience.mirrors import RoundRobin, round_robin
from app.resilience.store import Store
from app.settings import UpstreamSettings
from app.tasks import BackgroundTasks

F = TypeVar("F", Exchange, Fetch)


@dataclass(frozen=True)
class Upstream:
    """One upstream as it is asked through all layers, and what they have learnt of it."""

    fetch: Fetch
    latency: Latency
    budget: RetryBudget
    bulkhead: Bulkhead
    breakers: tuple[Breaker, ...]
    failures: KeyFailures
    background: BackgroundTasks

    @cached_property
    def lookup(self) -> Callable[[Call], Answer | None]:
        """What can be answered without waiting: nothing, if the pipeline has no cache."""
        return self.fetch.lookup if isinstance(self.fetch, CachedFetch) else lambda _: None

    async def aclose(self) -> None:
        """End what is done in the background."""
        await self.background.aclose()


def pipeline(
    mirrors: Sequence[Exchange],
    settings: UpstreamSettings,
    *,
    store: Store,
    decoding: asyncio.Lock,
    request_timeout: float,
    emit: Emit,
    clock: Callable[[], float] = perf_counter,
) -> Upstream:
    """Wrap `mirrors`, one exchange with each, into a call that survives.

    A call has `request_timeout` seconds by default, and so has a background refresh. Each layer
    that waits ends its waiting at the call's deadline, so none stands around them all. Whoever
    holds the lock `decoding` decodes a large body; all upstreams share it. `clock` times the
    attempts, in seconds. Called within the event loop that the service runs on.
    """
    time = asyncio.get_running_loop().time
    latency = Latency(time)
    budget = RetryBudget(settings.retry_budget)
    bulkhead = Bulkhead(settings.concurrency, latency, settings.attempt_timeout, time)
    failures = KeyFailures()
    turns = RoundRobin(len(mirrors), time)
    background = BackgroundTasks()
    breakers = tuple(Breaker() for _ in mirrors)
    fair = min(settings.attempt_timeout, request_timeout)

    attempts = [
        _stack(
            # An open circuit must not queue for a permit.
            circuit_breaker(
                breakers,
                failures,
                latency,
                background,
                emit,
                mirror=mirror,
                attempt_timeout=fair,
            ),
            # Below retry: nobody backs off with a permit. Above measure: queueing is our delay.
            limit(bulkhead, failures, emit),
            # Above timeout, so that timeouts are counted and reported.
            measure(latency, failures, emit, mirror=mirror, clock=clock),
            around=decoded(
                _stack(
                    # Below decoding: a large body waits for its turn, and that is our delay.
                    timeout(settings.attempt_timeout),
                    around=exchange,
                ),
                decoding,
            ),
        )
        for mirror, exchange in enumerate(mirrors)
    ]
    one_round = round_robin(attempts, turns)
    if settings.hedge != "off":
        one_round = race(attempts, settings.hedge, turns, budget, failures, latency, emit)
    fetch = _stack(
        # Outermost: what is stored starts no flight.
        cache(store, background, emit, refresh_timeout=request_timeout),
        # Above retry: waiters share the attempts, and their price.
        coalesce(latency, emit),
        # Below coalesce: whoever joins a flight is no load.
        shed(emit),
        # Above retry: a probe is one attempt. Below cache: stale data may stand in.
        quarantine(failures, background, request_timeout=request_timeout),
        # Above the mirrors: one round of them is one try.
        retry(settings.retries, budget, failures, latency, turns, emit, random=random.random),
        around=one_round,
    )
    return Upstream(fetch, latency, budget, bulkhead, breakers, failures, background)


def _stack(*layers: Callable[[F], F], around: F) -> F:
    """The first layer outermost."""
    return reduce(lambda fetch, layer: layer(fetch), reversed(layers), around)
