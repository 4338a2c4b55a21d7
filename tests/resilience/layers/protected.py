"""A circuit breaker layer, and what it emits."""

from collections.abc import Sequence

from app.call import Event, Fetch
from app.resilience.breaker import Breaker
from app.resilience.events import BreakerStateChanged
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.circuit_breaker import circuit_breaker
from app.tasks import BackgroundTasks

OPENED = BreakerStateChanged("posts", 0, "open")
CLOSED = BreakerStateChanged("posts", 0, "closed")
HALF_OPENED = BreakerStateChanged("posts", 0, "half_open")


def transitions(events: list[Event]) -> list[Event]:
    """Without `half_open`, which follows from the clock: a layer may emit it or not."""
    return [event for event in events if event != HALF_OPENED]


def protected(
    upstream: Fetch,
    breaker: Breaker,
    events: list[Event] | None = None,
    *,
    others: Sequence[Breaker] = (),
    failures: KeyFailures | None = None,
    latency: Latency | None = None,
    background: BackgroundTasks | None = None,
    attempt_timeout: float = 0.8,
) -> Fetch:
    """`upstream` as the first mirror; the `others` are the breakers of the other ones."""
    layer = circuit_breaker(
        [breaker, *others],
        KeyFailures() if failures is None else failures,
        latency or Latency(),
        background or BackgroundTasks(),
        ([] if events is None else events).append,
        mirror=0,
        attempt_timeout=attempt_timeout,
    )
    return layer(upstream)
