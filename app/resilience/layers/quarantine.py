"""Quarantine: a key that only fails is asked for once a second, by a probe.

So it takes no permits, no retries and no time from the others, and its upstream is not asked again
and again for what breaks it.
"""

import asyncio

from app.call import Answer, Call, Fetch, Layer
from app.errors import CircuitOpen, Failure
from app.resilience.key_failures import KeyFailures
from app.resilience.probe import settled, wait_for, with_own_time
from app.tasks import BackgroundTasks


def quarantine(
    failures: KeyFailures, background: BackgroundTasks, *, request_timeout: float
) -> Layer:
    """While the key is in quarantine, the call is `CircuitOpen` at once.

    A probe has `request_timeout` seconds.
    """

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def quarantined(call: Call) -> Answer:
            if not failures.is_quarantined(call.key):
                return await fetch(call)
            wait = failures.probe_after(call.key, time())
            if wait > 0:
                raise CircuitOpen(
                    "this very request failed too often to be asked again now",
                    retry_after=max(round(wait, 3), 0.001),
                )
            probe = background.start(probing(with_own_time(call, request_timeout)))
            return await wait_for(probe, call)

        async def probing(call: Call) -> Answer | Failure:
            result = await settled(fetch(call))
            if isinstance(result, CircuitOpen):
                failures.on_nobody_asked(call.key)
            return result

        return quarantined

    return layer
