"""The circuit breaker: a mirror that keeps failing is not asked for a while."""

import asyncio

from app.call import Answer, Call, Emit, Fetch, Layer
from app.errors import CircuitOpen, Failure, Timeout
from app.resilience.breaker import Breaker, State
from app.resilience.events import BreakerStateChanged
from app.resilience.latency import Latency

_FAIR = 0.9
"""Of the time that most attempts take, or of all that one may take: an attempt that was allotted as
much had a fair chance. Not all of it, because some of a request's time is gone before it begins."""


def circuit_breaker(
    breaker: Breaker, latency: Latency, emit: Emit, *, mirror: int, attempt_timeout: float
) -> Layer:
    """Ask the mirror only while its breaker lets us; else the call is `CircuitOpen` at once."""

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def protected(call: Call) -> Answer:
            generation = breaker.try_acquire(time())
            if generation is None:
                raise CircuitOpen(
                    "it failed too often to be asked again now",
                    retry_after=round(breaker.retry_after(time()), 3),
                )
            try:
                answer = await fetch(call)
            except Failure as failure:
                count(failure, generation, call)
                raise
            except BaseException:
                breaker.on_ignored(generation)
                raise
            emit_transition(breaker.on_success(generation, time()), call)
            return answer

        def count(failure: Failure, generation: int, call: Call) -> None:
            verdict = failure.policy.breaker
            if verdict == "ignored" or had_no_fair_time(failure):
                breaker.on_ignored(generation)
            elif verdict == "failure":
                emit_transition(breaker.on_failure(generation, time()), call)
            else:
                emit_transition(breaker.on_success(generation, time()), call)

        def had_no_fair_time(failure: Failure) -> bool:
            """A client in a hurry must not be able to open the breaker for everybody."""
            fair = _FAIR * min(attempt_timeout, latency.p95 or attempt_timeout)
            return isinstance(failure, Timeout) and failure.allotted < fair

        def emit_transition(state: State | None, call: Call) -> None:
            if state is not None:
                emit(BreakerStateChanged(call.question.upstream, mirror, state))

        return protected

    return layer
