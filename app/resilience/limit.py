"""The bulkhead: one upstream's trouble takes no more than its own share of the service.

Nygard, *Release It!*, "Bulkheads". Below retry, so that nobody holds a permit while backing off.
"""

import asyncio
from contextlib import AsyncExitStack

from app.errors import Overloaded
from app.resilience.call import Answer, Call, Fetch, Layer

_NO_PERMIT = "no free capacity before the deadline"


class Bulkhead:
    """Permits for the attempts in flight at one upstream."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self._permits = asyncio.Semaphore(capacity)

    def locked(self) -> bool:
        """Whether a permit has to be waited for."""
        return self._permits.locked()

    async def __aenter__(self) -> None:
        await self._permits.acquire()
        self.in_flight += 1

    async def __aexit__(self, *_: object) -> None:
        self.in_flight -= 1
        self._permits.release()


def limit(bulkhead: Bulkhead) -> Layer:
    """Hold a permit of the request's fan-out, then one of the upstream, for each attempt.

    In this order: a request that may not have more in flight must not queue at the upstream.
    Who has no permit at the deadline is `Overloaded`.
    """

    def layer(fetch: Fetch) -> Fetch:
        async def limited(call: Call) -> Answer:
            fan_out = call.context.fan_out
            if fan_out.locked() or bulkhead.locked():
                return await queued(call)
            async with fan_out, bulkhead:
                return await fetch(call)

        async def queued(call: Call) -> Answer:
            # Apart from the way above, because a timer costs more than both permits.
            deadline = call.context.deadline
            async with AsyncExitStack() as permits:
                try:
                    async with asyncio.timeout_at(deadline):
                        await permits.enter_async_context(call.context.fan_out)
                        await permits.enter_async_context(bulkhead)
                except TimeoutError:
                    raise Overloaded(_NO_PERMIT) from None
                # The attempt before may have ended at this very deadline.
                if asyncio.get_running_loop().time() >= deadline:
                    raise Overloaded(_NO_PERMIT)
                return await fetch(call)

        return limited

    return layer
