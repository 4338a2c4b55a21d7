"""Load shedding: a request that can only wait in vain is turned away before it costs much.

Under overload each upstream's queue would turn away its own share, and hardly any answer would get
all of its sections. Deciding once for all calls of a request keeps those that are let in complete.
"""

import asyncio

from app.call import Answer, Call, Context, Emit, Fetch, Layer
from app.errors import Overloaded
from app.resilience.events import Shed

_BEHIND = 0.05
_TOO_LONG = 0.5
"""Of the time that a request has, which its permits may take. The rest is for the attempts, and
keeps the queues short of the point where a bulkhead has to turn single calls away."""


def shed(emit: Emit) -> Layer:
    """Begin nothing for a request that is turned away: all of its calls are `Overloaded`."""

    def layer(fetch: Fetch) -> Fetch:
        async def shedding(call: Call) -> Answer:
            wait = overload_wait(call.context)
            if wait is None:
                return await fetch(call)
            failure = Overloaded("too many calls are waiting already", retry_after=round(wait, 3))
            emit(Shed(call, failure))
            raise failure

        return shedding

    return layer


def overload_wait(context: Context) -> float | None:
    """How long the request would have to wait for its permits, in seconds, if that is too long.

    Only when all of its upstreams are behind: while one is not, a part of the answer can be had.
    """
    admission = context.admission
    if not admission.decided:
        admission.decided = True
        waits = admission.expected_waits()
        if waits and max(waits) > 0:
            seconds = context.deadline - asyncio.get_running_loop().time()
            if min(waits) > seconds * _BEHIND and max(waits) > seconds * _TOO_LONG:
                admission.overload_wait = max(waits)
    return admission.overload_wait
