"""Policies in a given state: an open breaker, a known latency, a full bulkhead, a budget."""

import asyncio

from app.resilience.breaker import Breaker
from app.resilience.budget import RetryBudget
from app.resilience.bulkhead import Bulkhead
from app.resilience.latency import Latency


def fail(breaker: Breaker, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        generation = breaker.try_acquire(at)
        assert generation is not None
        breaker.on_failure(generation, at)


def succeed(breaker: Breaker, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        generation = breaker.try_acquire(at)
        assert generation is not None
        breaker.on_success(generation, at)


def an_open_breaker(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, 20, at)
    assert breaker.state(at) == "open"
    return breaker


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
