"""Each exchange is counted, timed and reported, its timeout included."""

import asyncio
from collections.abc import Callable

from app.call import Answer, Call, Emit, Fetch, Layer
from app.errors import Failure, Timeout
from app.resilience.events import AttemptCancelled, AttemptEnded
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency


def measure(
    latency: Latency,
    failures: KeyFailures,
    emit: Emit,
    *,
    mirror: int,
    clock: Callable[[], float],
) -> Layer:
    """Count the attempt on its call, and emit how it ended: well, badly or cancelled.

    Only good answers say how long an answer takes: a 404 may be quicker, and a refused connection
    is. Nor does a key that keeps failing. `clock` is in seconds, and finer than the loop's, which
    counts milliseconds.
    """

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def measured(call: Call) -> Answer:
            call.tally.attempts += 1
            began = clock()
            try:
                answer = await fetch(call)
            except Failure as failure:
                seconds = clock() - began
                if isinstance(failure, Timeout) and not failures.is_spent(call.key, time()):
                    latency.add_unfinished(seconds)
                emit(AttemptEnded(call, mirror, seconds, failure))
                raise
            except asyncio.CancelledError:
                seconds = clock() - began
                latency.add_unfinished(seconds)
                emit(AttemptCancelled(call, mirror, seconds))
                raise
            seconds = clock() - began
            latency.add(seconds - answer.waited)
            emit(AttemptEnded(call, mirror, seconds, None))
            return answer

        return measured

    return layer
