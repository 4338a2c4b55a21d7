"""Each exchange is counted, timed and reported, its timeout included."""

import asyncio
from time import perf_counter

from app.call import Answer, Call, Emit, Fetch, Layer
from app.errors import Failure, Timeout
from app.resilience.events import AttemptCancelled, AttemptEnded
from app.resilience.latency import Latency


def measure(latency: Latency, emit: Emit, *, mirror: int) -> Layer:
    """Count the attempt on its call, and emit how it ended: well, badly or cancelled.

    What the mirror answered, if only with a 404, says how long it takes. What broke does not: a
    refused connection is quick.
    """

    def layer(fetch: Fetch) -> Fetch:
        async def measured(call: Call) -> Answer:
            call.tally.attempts += 1
            began = perf_counter()
            try:
                answer = await fetch(call)
            except Failure as failure:
                seconds = perf_counter() - began
                if failure.policy.answered:
                    latency.add(seconds)
                elif isinstance(failure, Timeout):
                    latency.add_unfinished(seconds)
                emit(AttemptEnded(call, mirror, seconds, failure))
                raise
            except asyncio.CancelledError:
                seconds = perf_counter() - began
                latency.add_unfinished(seconds)
                emit(AttemptCancelled(call, mirror, seconds))
                raise
            seconds = perf_counter() - began
            latency.add(seconds)
            emit(AttemptEnded(call, mirror, seconds, None))
            return answer

        return measured

    return layer
