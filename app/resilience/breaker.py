"""The circuit breaker: a mirror that fails half of the time is left alone for a while.

Nygard, *Release It!*, "Circuit Breaker"; generations after sony/gobreaker. `Breaker` decides and
takes `now`; the layer `circuit_breaker` only asks it.

    closed ──half of the last results failed──> open
    open ──after a rest──> half-open: one call goes through
    half-open ──it succeeds──> closed    ──it fails──> open    ──it is cancelled──> the next one
"""

import asyncio
from collections import deque
from typing import Literal

from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.call import Answer, Call, Fetch, Layer
from app.resilience.events import BreakerStateChanged, Emit
from app.resilience.latency import Latency

State = Literal["closed", "open", "half_open"]

_RATIO = 0.5
_MINIMUM = 20
"""Results before the ratio says anything."""
_WINDOW = 10.0
"""Seconds after which a result says nothing any more."""
_MOST = 100
"""Results that are looked at: at a thousand a second, an outage must not wait for five thousand."""
_OPEN_SECONDS = 1.0
"""Seconds. One probe a second costs an upstream nothing, and its return is noticed within one."""

_FAIR = 0.9
"""Of the time that most attempts take, or of all that one may take: who had as much was treated
fairly. Not the whole, because some of a request's time is gone before its first attempt."""


class Breaker:
    """The state machine of one mirror. Times are seconds of any one clock that never goes back."""

    def __init__(self) -> None:
        self._generation = 0
        self._results: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    def state(self, now: float) -> State:
        if self._opened is None:
            return "closed"
        return "half_open" if now >= self._opened + _OPEN_SECONDS else "open"

    def retry_after(self, now: float) -> float:
        """Seconds until there is any point in coming back."""
        if self._opened is None:
            return 0.0
        left = self._opened + _OPEN_SECONDS - now
        return left if left > 0 else _OPEN_SECONDS if self._probing else 0.0

    def try_acquire(self, now: float) -> int | None:
        """Let a call through, under the number of its generation; None: it may not go."""
        if self._opened is not None:
            if self._probing or now < self._opened + _OPEN_SECONDS:
                return None
            self._probing = True
        return self._generation

    def on_success(self, generation: int, now: float) -> State | None:
        """Count a good result; gives the state that the breaker turned to by it, if it did."""
        if generation != self._generation:
            return None
        if self._opened is not None:
            return self._turn(None)
        self._count(now, failed=False)
        return None

    def on_failure(self, generation: int, now: float) -> State | None:
        """Count a bad result, likewise."""
        if generation != self._generation:
            return None
        if self._opened is not None:
            return self._turn(now)
        self._count(now, failed=True)
        seen = len(self._results)
        return self._turn(now) if seen >= _MINIMUM and self._failures >= _RATIO * seen else None

    def on_ignored(self, generation: int) -> None:
        """The call ended without telling anything about the mirror: it counts neither way."""
        if generation == self._generation:
            self._probing = False

    def _turn(self, opened: float | None) -> State:
        # What comes back from before is of another generation, and does not count.
        self._generation += 1
        self._opened = opened
        self._probing = False
        self._results.clear()
        self._failures = 0
        return "closed" if opened is None else "open"

    def _count(self, now: float, failed: bool) -> None:
        results = self._results
        results.append((now, failed))
        self._failures += failed
        while len(results) > _MOST or results[0][0] < now - _WINDOW:
            self._failures -= results.popleft()[1]


def circuit_breaker(
    breaker: Breaker, latency: Latency, emit: Emit, *, mirror: int, attempt_timeout: float
) -> Layer:
    """Ask the mirror only while its breaker lets us; else the call is `CircuitOpen` at once."""

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def protected(call: Call) -> Answer:
            generation = breaker.try_acquire(time())
            if generation is None:
                raise CircuitOpen(
                    "it failed too often to be asked again now",
                    retry_after=round(breaker.retry_after(time()), 3),
                )
            try:
                answer = await fetch(call)
            except Failure as failure:
                match _blame(failure, _FAIR * min(attempt_timeout, latency.p95 or attempt_timeout)):
                    case True:
                        emit_transition(breaker.on_failure(generation, time()), call)
                    case False:
                        emit_transition(breaker.on_success(generation, time()), call)
                    case _:
                        breaker.on_ignored(generation)
                raise
            except BaseException:
                breaker.on_ignored(generation)
                raise
            emit_transition(breaker.on_success(generation, time()), call)
            return answer

        def emit_transition(turned: State | None, call: Call) -> None:
            if turned is not None:
                emit(BreakerStateChanged(call.question.upstream, mirror, turned))

        return protected

    return layer


def _blame(failure: Failure, fair: float) -> bool | None:
    """Whether the mirror is to blame for a failure; None if it tells nothing about it.

    A client in a hurry must not be able to open the breaker for everybody: it is no fault to be
    slower than an attempt that had less than a `fair` time, in seconds.
    """
    match failure:
        case Timeout(allotted=allotted):
            return True if allotted >= fair else None
        case Unreachable() | InvalidPayload():
            return True
        case UpstreamStatus():
            return failure.retryable
        case Overloaded():  # our own queue, or one client's quota
            return None
    return False
