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
    is. Nor does a key that keeps failing. One that is given up again and again, by clients who have
    waited for clearly more than the usual time, fails as much as if it had timed out. `clock` is in
    seconds, and finer than the loop's, which counts milliseconds.
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
                if isinstance(failure, Timeout):
                    on_unfinished(call, seconds)
                emit(AttemptEnded(call, mirror, seconds, failure))
                raise
            except asyncio.CancelledError:
                seconds = clock() - began
                unusual = latency.unusual
                on_unfinished(call, seconds)
                if unusual is not None and seconds >= unusual:
                    failures.on_failure(call.key, time())
                emit(AttemptCancelled(call, mirror, seconds))
                raise
            seconds = clock() - began
            latency.add(seconds - answer.waited)
            emit(AttemptEnded(call, mirror, seconds, None))
            return answer

        def on_unfinished(call: Call, seconds: float) -> None:
            if not failures.is_spent(call.key, time()):
                latency.add_unfinished(seconds)

        return measured

    return layer
