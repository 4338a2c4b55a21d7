"""The order of the layers. This file is the one place that knows it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from app.resilience.breaker import Breaker, circuit_breaker
from app.resilience.budget import RetryBudget
from app.resilience.cache import Cached, Store
from app.resilience.call import Fetch, Layer
from app.resilience.coalesce import coalesce
from app.resilience.events import Emit
from app.resilience.latency import Latency
from app.resilience.limit import Bulkhead, limit
from app.resilience.measure import measure
from app.resilience.race import race, round_robin
from app.resilience.retry import retry
from app.resilience.shed import shed
from app.resilience.timeout import timeout
from app.settings import UpstreamSettings


@dataclass(frozen=True, slots=True)
class Upstream:
    """One upstream as it is asked through all layers, and what they have learnt of it."""

    fetch: Cached
    latency: Latency
    budget: RetryBudget
    bulkhead: Bulkhead
    breakers: tuple[Breaker, ...]


def pipeline(
    mirrors: Sequence[Fetch],
    settings: UpstreamSettings,
    *,
    store: Store,
    refresh_timeout: float,
    emit: Emit,
) -> Upstream:
    """Wrap `mirrors`, one exchange with each, into a call that survives.

    By default a call has `refresh_timeout` seconds, and so has each background refresh. Each layer
    that waits ends its waiting at the call's deadline, so none stands around them all. Called
    within the event loop that the service runs on.
    """
    latency = Latency()
    budget = RetryBudget(settings.retry_budget)
    bulkhead = Bulkhead(settings.concurrency, latency, settings.attempt_timeout)
    breakers = tuple(Breaker() for _ in mirrors)
    fair = min(settings.attempt_timeout, refresh_timeout)

    def attempts(mirror: int, send: Fetch) -> Fetch:
        return _wrapped(
            # An open circuit must not queue for a permit.
            circuit_breaker(breakers[mirror], latency, emit, mirror=mirror, attempt_timeout=fair),
            # Below retry: nobody backs off with a permit. Above what is timed: queueing is ours.
            limit(bulkhead, emit),
            # Above timeout, so that time-outs are counted and told.
            measure(latency, emit, mirror=mirror),
            # Around one exchange alone.
            timeout(settings.attempt_timeout),
            around=send,
        )

    each = [attempts(mirror, send) for mirror, send in enumerate(mirrors)]
    round_ = (
        round_robin(each)
        if settings.hedge == "off"
        else race(each, settings.hedge, budget, latency, emit)
    )
    calls = _wrapped(
        # Above retry: passengers share the attempts, and their price.
        coalesce(latency, emit),
        # Below coalesce: whoever finds a flight is no load.
        shed(emit),
        # Above the round: one turn of the mirrors is one try.
        retry(
            settings.retries,
            budget,
            latency,
            emit,
            other_mirrors=len(each) > 1,
            random=random.random,
        ),
        around=round_,
    )
    # Outermost: what is stored starts no flight.
    return Upstream(
        Cached(calls, store, budget, emit, refresh_timeout), latency, budget, bulkhead, breakers
    )


def _wrapped(*layers: Layer, around: Fetch) -> Fetch:
    """The first layer outermost."""
    return reduce(lambda fetch, layer: layer(fetch), reversed(layers), around)
