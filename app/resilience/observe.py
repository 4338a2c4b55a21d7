"""The attempt event: each exchange is counted and told, its time-out included."""

from time import perf_counter

from app.errors import Failure
from app.resilience.call import Answer, Call, Fetch, Layer
from app.resilience.events import AttemptEnded, Emit


def observe(emit: Emit) -> Layer:
    """Count the attempt on its call, and emit how it ended. A cancelled one is not an outcome."""

    def layer(fetch: Fetch) -> Fetch:
        async def observed(call: Call) -> Answer:
            call.tally.attempts += 1
            began = perf_counter()
            try:
                answer = await fetch(call)
            except Failure as failure:
                emit(AttemptEnded(call, perf_counter() - began, failure))
                raise
            emit(AttemptEnded(call, perf_counter() - began, None))
            return answer

        return observed

    return layer
