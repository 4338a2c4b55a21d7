"""The deadline: every way of waiting ends with it, the wait for a permit included."""

import asyncio

from app.errors import NO_PERMIT, Overloaded, Timeout
from app.resilience.call import Answer, Call, Fetch, Layer

# An attempt is stopped at the deadline itself, and knows why it ended. This guard comes a little
# later, so that it speaks only for what no inner layer bounds.
_GRACE = 0.005


def deadline() -> Layer:
    """End a call at its deadline: `Overloaded` if it never got a permit, else `Timeout`."""

    def layer(fetch: Fetch) -> Fetch:
        async def bounded(call: Call) -> Answer:
            try:
                async with asyncio.timeout_at(call.context.deadline + _GRACE):
                    return await fetch(call)
            except TimeoutError:
                if call.tally.attempts == 0:
                    raise Overloaded(NO_PERMIT) from None
                raise Timeout("no answer before the deadline") from None

        return bounded

    return layer
