"""The bulkhead: one upstream's trouble takes no more than its own share of the service.

Nygard, *Release It!*, "Bulkheads". Permits for the attempts in flight at one upstream, and the
queue for them; the layer `limit` holds one for each attempt.
"""

import asyncio
from collections.abc import Callable
from math import inf

from app.errors import Overloaded
from app.resilience.aimd import AdaptiveLimit
from app.resilience.latency import Latency

NO_PERMIT = "no free capacity before the deadline"
_MAX_QUEUE = 1000
"""Waiters. The expected wait turns most away long before; this bounds the memory of the rest."""


class Bulkhead:
    """First come, first served, but no permit is wasted on a waiter that has no time left for it.

    `attempt_timeout` in seconds, `time` a clock in seconds that never goes back.
    """

    def __init__(
        self,
        ceiling: int,
        latency: Latency | None = None,
        attempt_timeout: float = inf,
        time: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._latency = latency or Latency()
        self.limit = AdaptiveLimit(ceiling, self._latency, attempt_timeout, time)
        self.in_flight = 0
        self._queue: dict[asyncio.Future[None], float] = {}

    @property
    def free(self) -> bool:
        """Whether there is a permit without waiting."""
        return self.in_flight < self.limit.limit and not self._queue

    @property
    def queued(self) -> int:
        return len(self._queue)

    def expected_wait(self) -> float:
        """Seconds that a newcomer has to wait for a permit, by what attempts take now."""
        if self.free:
            return 0.0
        return (len(self._queue) + 1) * (self._latency.p50 or 0.0) / self.limit.limit

    def cannot_meet(self, deadline: float, now: float) -> bool:
        """Whether a newcomer cannot expect an answer by its deadline."""
        wait = self.expected_wait()
        return wait > 0 and now + wait + self._latency.typical_max > deadline

    def try_acquire(self) -> bool:
        """Take a permit, if there is one without waiting."""
        if not self.free:
            return False
        self.in_flight += 1
        return True

    async def acquire(self, deadline: float) -> None:
        """Take a permit as soon as there is one. Raises `Overloaded` once that is no use."""
        if self.try_acquire():
            return
        loop = asyncio.get_running_loop()
        if self.cannot_meet(deadline, loop.time()) or len(self._queue) >= _MAX_QUEUE:
            raise Overloaded(NO_PERMIT, retry_after=round(self.expected_wait(), 3))
        waiter: asyncio.Future[None] = loop.create_future()
        self._queue[waiter] = deadline
        try:
            await waiter
        except asyncio.CancelledError:
            if self._queue.pop(waiter, None) is None and _has_permit(waiter):
                self.release()
            raise

    def release(self) -> None:
        """Return a permit; the next waiter gets it."""
        self.in_flight -= 1
        if not self._queue:
            return
        earliest = asyncio.get_running_loop().time() + self._latency.typical_max
        while self._queue and self.in_flight < self.limit.limit:
            waiter = next(iter(self._queue))
            deadline = self._queue.pop(waiter)
            if waiter.done():
                continue  # cancelled in this very step, and about to leave by itself
            if deadline < earliest:
                waiter.set_exception(Overloaded(NO_PERMIT))
            else:
                self.in_flight += 1
                waiter.set_result(None)


def _has_permit(waiter: asyncio.Future[None]) -> bool:
    return waiter.done() and not waiter.cancelled() and waiter.exception() is None
