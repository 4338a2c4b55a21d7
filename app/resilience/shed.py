"""Shedding on arrival: a request that can only wait in vain is turned away before it costs much.

Under overload each upstream's queue would turn away its own share, and hardly any answer would get
all of its sections. Deciding once, for the whole request, keeps those that are let in complete.
"""

from collections.abc import Iterable

from app.errors import Overloaded
from app.resilience.call import Answer, Call, Fetch, Layer
from app.resilience.events import Emit, Shed
from app.resilience.limit import Bulkhead

_BEHIND = 0.05
_TOO_LONG = 0.5
"""Of the time that a request has, which its permits may take. The rest is for the attempts, and
keeps the queues short of the point where a bulkhead has to turn single calls away."""


def overload_wait(bulkheads: Iterable[Bulkhead], seconds: float) -> float | None:
    """How long a request with `seconds` of time would have to wait, if that is too long.

    Only when all of its upstreams are behind: while one is not, there is something to tell.
    """
    waits = [bulkhead.expected_wait() for bulkhead in bulkheads]
    if min(waits, default=0.0) > seconds * _BEHIND and max(waits) > seconds * _TOO_LONG:
        return max(waits)
    return None


def shed(emit: Emit) -> Layer:
    """Begin nothing for a request that was turned away: its calls are `Overloaded`."""

    def layer(fetch: Fetch) -> Fetch:
        async def kept_out(call: Call) -> Answer:
            wait = call.context.overload_wait
            if wait is None:
                return await fetch(call)
            failure = Overloaded("too many calls are waiting already", retry_after=round(wait, 3))
            emit(Shed(call, failure))
            raise failure

        return kept_out

    return layer
