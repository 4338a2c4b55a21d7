"""The bulkhead: one upstream's trouble takes no more than its own share of the service.

Nygard, *Release It!*, "Bulkheads". Below retry, so that nobody holds a permit while backing off.
"""

import asyncio
from math import inf

from app.errors import NotFound, Overloaded
from app.resilience.aimd import AdaptiveLimit
from app.resilience.call import Answer, Call, Fetch, Layer
from app.resilience.events import Emit, LeftQueue, Queued, Shed
from app.resilience.latency import Latency

_NO_PERMIT = "no free capacity before the deadline"
_LONGEST_QUEUE = 1000
"""Waiters. The expected wait turns most away long before; this bounds the memory of the rest."""


class Bulkhead:
    """Permits for the attempts in flight at one upstream, and the queue for them.

    First come, first served, but a permit is not wasted on somebody who has no time left to use it.
    `attempt_timeout` in seconds.
    """

    def __init__(
        self, ceiling: int, latency: Latency | None = None, attempt_timeout: float = inf
    ) -> None:
        self._latency = latency or Latency()
        self.limit = AdaptiveLimit(ceiling, self._latency, attempt_timeout)
        self.in_flight = 0
        self._queue: dict[asyncio.Future[None], float] = {}

    @property
    def free(self) -> bool:
        """Whether a permit can be taken without waiting."""
        return self.in_flight < self.limit.limit and not self._queue

    @property
    def queued(self) -> int:
        return len(self._queue)

    def expected_wait(self) -> float:
        """Seconds that a newcomer has to wait for a permit, by what attempts take now."""
        if self.free:
            return 0.0
        return (len(self._queue) + 1) * (self._latency.p50 or 0.0) / self.limit.limit

    def cannot_meet(self, now: float, deadline: float) -> bool:
        """Whether a newcomer cannot expect an answer by its deadline."""
        wait = self.expected_wait()
        return wait > 0 and now + wait + self._latency.typical_max > deadline

    def try_acquire(self) -> None:
        """Take a permit that is free."""
        self.in_flight += 1

    async def acquire(self, deadline: float) -> None:
        """Take a permit when there is one. Raises `Overloaded` as soon as that is no use."""
        if self.free:
            self.try_acquire()
            return
        loop = asyncio.get_running_loop()
        if self.cannot_meet(loop.time(), deadline) or len(self._queue) >= _LONGEST_QUEUE:
            raise Overloaded(_NO_PERMIT, retry_after=round(self.expected_wait(), 3))
        waiter: asyncio.Future[None] = loop.create_future()
        self._queue[waiter] = deadline
        try:
            await waiter
        except asyncio.CancelledError:
            if self._queue.pop(waiter, None) is None and _given(waiter):
                self.release()
            raise

    def release(self) -> None:
        """Return a permit; whoever is next gets it."""
        self.in_flight -= 1
        if not self._queue:
            return
        least = asyncio.get_running_loop().time() + self._latency.typical_max
        while self._queue and self.in_flight < self.limit.limit:
            waiter = next(iter(self._queue))
            deadline = self._queue.pop(waiter)
            if waiter.done():
                continue  # cancelled in this very step, and about to leave by itself
            if deadline < least:
                waiter.set_exception(Overloaded(_NO_PERMIT))
            else:
                self.in_flight += 1
                waiter.set_result(None)


def _given(waiter: asyncio.Future[None]) -> bool:
    return waiter.done() and not waiter.cancelled() and waiter.exception() is None


def limit(bulkhead: Bulkhead, emit: Emit) -> Layer:
    """Hold a permit of the request's fan-out, then one of the upstream, for each attempt.

    In this order: a request that may not have more in flight must not queue at the upstream.
    Who has no permit at the deadline, or cannot expect one, is `Overloaded`.
    """

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def limited(call: Call) -> Answer:
            fan_out = call.context.fan_out
            if fan_out.locked() or not bulkhead.free or time() >= call.context.deadline:
                # Apart, because the timer costs more than both permits.
                await queue(call)
            else:
                await fan_out.acquire()
                bulkhead.try_acquire()
            began, answers = time(), bulkhead.limit.answers
            answered = False
            try:
                answer = await fetch(call)
            except NotFound:
                answered = True
                raise
            else:
                answered = True
                return answer
            finally:
                bulkhead.limit.on_sample(
                    began,
                    time(),
                    bulkhead.in_flight,
                    answered=answered,
                    meanwhile=bulkhead.limit.answers - answers,
                )
                bulkhead.release()
                fan_out.release()

        async def queue(call: Call) -> None:
            began = time()
            try:
                await _take_both(call.context.fan_out, bulkhead, call.context.deadline)
            except Overloaded as failure:
                emit(Shed(call, failure, time() - began))
                raise
            except asyncio.CancelledError:
                emit(LeftQueue(call, time() - began))
                raise
            emit(Queued(call, time() - began))

        return limited

    return layer


async def _take_both(fan_out: asyncio.Semaphore, bulkhead: Bulkhead, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await fan_out.acquire()
            try:
                await bulkhead.acquire(deadline)
            except BaseException:
                fan_out.release()
                raise
    except TimeoutError:
        raise Overloaded(_NO_PERMIT) from None
    # The attempt before may have ended at this very deadline.
    if asyncio.get_running_loop().time() >= deadline:
        bulkhead.release()
        fan_out.release()
        raise Overloaded(_NO_PERMIT)
