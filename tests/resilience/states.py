"""Policies in a given state: an open breaker, a known latency, a full bulkhead, a budget."""

import asyncio

from app.call import Call
from app.resilience.breaker import Breaker
from app.resilience.budget import RetryBudget
from app.resilience.bulkhead import Bulkhead
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker, times: int, at: float = 0.0, *, alternative: bool = False) -> None:
    for _ in range(times):
        permit = breaker.try_acquire(at)
        assert permit is not None
        breaker.on_failure(permit, at, alternative=alternative)


def succeed(breaker: Breaker, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        permit = breaker.try_acquire(at)
        assert permit is not None
        breaker.on_success(permit, at)


def an_open_breaker(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, 20, at)
    assert breaker.state(at) == "open"
    return breaker


def failed(failures: KeyFailures, call: Call, times: int, at: float = 0.0) -> KeyFailures:
    """The same failures, with so many more of the call's key."""
    for _ in range(times):
        failures.on_failure(call.key, at)
    return failures


def a_latency(p50: float, p95: float | None = None) -> Latency:
    """Of twenty attempts, just enough for percentiles. Without `p95`, all took the same time."""
    latency = Latency()
    for seconds in [p50] * 19 + [p50 if p95 is None else p95]:
        latency.add(seconds)
    return latency


def a_full_bulkhead(permits: int, latency: Latency | None = None) -> Bulkhead:
    bulkhead = Bulkhead(permits, latency)
    for _ in range(permits):
        assert bulkhead.try_acquire()
    return bulkhead


async def queue_at(bulkhead: Bulkhead, *deadlines: float) -> list[asyncio.Task[None]]:
    """Waiters in the queue of `bulkhead`, in this order."""
    waiters = [asyncio.create_task(bulkhead.acquire(deadline)) for deadline in deadlines]
    await asyncio.sleep(0)
    return waiters


def a_budget_of(attempts: float) -> RetryBudget:
    """A budget that no call adds to."""
    budget = RetryBudget(0.0)
    budget.balance = attempts
    return budget
