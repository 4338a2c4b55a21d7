"""A probe: a call that finds out for everybody whether an upstream has recovered.

It is nobody's: it has time of its own, and goes on when the client it was started for is in a hurry
or leaves. Else those would decide for how long everybody has to wait.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

from app.call import Answer, Call
from app.errors import Failure, Timeout


def with_own_time(call: Call, seconds: float) -> Call:
    """The same call, but with so much time, and with a fan-out of its own."""
    now = asyncio.get_running_loop().time()
    context = replace(call.context, deadline=now + seconds, fan_out=asyncio.Semaphore(1))
    return replace(call, context=context)


async def settled(fetched: Awaitable[Answer]) -> Answer | Failure:
    """What a probe gives: a failure is a result too, which perhaps nobody waits for."""
    try:
        return await fetched
    except Failure as failure:
        return failure


async def wait_for(probe: asyncio.Task[Answer | Failure], call: Call) -> Answer:
    """The result of the probe, for a call that leaves at its own deadline, with `Timeout`."""
    left = call.context.deadline - asyncio.get_running_loop().time()
    # Not `asyncio.shield`, in which a bug disappears when the call has left.
    await asyncio.wait([probe], timeout=max(left, 0.0))
    if not probe.done():
        raise Timeout("no answer before the deadline", allotted=0.0)
    result = probe.result()
    if isinstance(result, Failure):
        raise result
    return result
