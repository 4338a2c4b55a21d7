"""The attempt timeout: total, from the first byte sent to the last one decoded.

httpx bounds each read instead, which a body that drips a byte now and then outlives for ever.
"""

import asyncio

from app.call import Answer, Call, Fetch, Layer
from app.errors import Timeout


def timeout(seconds: float) -> Layer:
    """End an attempt after `seconds`, or at the deadline if that is sooner."""

    def layer(fetch: Fetch) -> Fetch:
        async def timed(call: Call) -> Answer:
            now = asyncio.get_running_loop().time()
            allotted = min(seconds, call.context.deadline - now)
            if allotted > 0:
                try:
                    async with asyncio.timeout_at(now + allotted) as scope:
                        return await fetch(call)
                except TimeoutError:
                    if not scope.expired():
                        raise  # not ours, so a bug
            raise Timeout(
                f"no answer within {round(max(allotted, 0), 3):g} s",
                cause="attempt timeout",
                allotted=allotted,
            )

        return timed

    return layer
