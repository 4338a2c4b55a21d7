"""The attempt timeout: total, from the first byte sent to the last one received.

httpx bounds each read instead, which a body that drips a byte now and then outlives for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.call import Call
from app.errors import Timeout

T = TypeVar("T")


def timeout(
    seconds: float,
) -> Callable[[Callable[[Call], Awaitable[T]]], Callable[[Call], Awaitable[T]]]:
    """End an attempt after `seconds`, or at the deadline if that is sooner."""

    def layer(ask: Callable[[Call], Awaitable[T]]) -> Callable[[Call], Awaitable[T]]:
        async def timed(call: Call) -> T:
            now = asyncio.get_running_loop().time()
            allotted = min(seconds, call.context.deadline - now)
            if allotted > 0:
                try:
                    async with asyncio.timeout_at(now + allotted) as scope:
                        return await ask(call)
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
