"""The bulkhead: one upstream's trouble takes no more than its own share of the service.

Nygard, *Release It!*, "Bulkheads". Below retry, so that nobody holds a permit while backing off.
"""

import asyncio

from app.errors import NO_PERMIT, Overloaded
from app.resilience.call import Answer, Call, Fetch, Layer


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
    """

    def layer(fetch: Fetch) -> Fetch:
        async def limited(call: Call) -> Answer:
            context = call.context
            queues = context.fan_out.locked() or bulkhead.locked()
            async with context.fan_out, bulkhead:
                # The attempt before may have ended at this very deadline.
                if queues and asyncio.get_running_loop().time() >= context.deadline:
                    raise Overloaded(NO_PERMIT)
                return await fetch(call)

        return limited

    return layer
