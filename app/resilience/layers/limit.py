"""The limits: a permit of the request's fan-out, then one of the upstream's, for each attempt."""

import asyncio

from app.call import Answer, Call, Emit, Fetch, Layer
from app.errors import Failure, Overloaded
from app.resilience.bulkhead import NO_PERMIT, Bulkhead
from app.resilience.events import LeftQueue, Queued, Shed
from app.resilience.key_failures import KeyFailures


def limit(bulkhead: Bulkhead, failures: KeyFailures, emit: Emit) -> Layer:
    """Hold both permits during an attempt.

    In this order: a request that may not have more in flight must not queue at the upstream. A call
    that has no permit at its deadline, or cannot expect one, is `Overloaded`.
    """

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time
        adaptive = bulkhead.limit

        async def limited(call: Call) -> Answer:
            fan_out = call.context.fan_out
            if time() < call.context.deadline and not fan_out.locked() and bulkhead.try_acquire():
                await fan_out.acquire()  # which does not wait: it is not locked
            else:  # apart, because the timer costs more than both permits
                await queue(call)
            began, answers_before = time(), adaptive.answers
            answered = False
            try:
                answer = await fetch(call)
            except Failure as failure:
                answered = failure.policy.answered
                raise
            else:
                answered = True
                return answer
            finally:
                if not failures.is_spent(call.key, time()):
                    adaptive.on_sample(
                        began,
                        time(),
                        bulkhead.in_flight,
                        answered=answered,
                        meanwhile=adaptive.answers - answers_before,
                    )
                bulkhead.release()
                fan_out.release()

        async def queue(call: Call) -> None:
            began = time()
            try:
                await _acquire_both(call.context.fan_out, bulkhead, call.context.deadline)
            except Overloaded as failure:
                emit(Shed(call, failure, time() - began))
                raise
            except asyncio.CancelledError:
                emit(LeftQueue(call, time() - began))
                raise
            emit(Queued(call, time() - began))

        return limited

    return layer


async def _acquire_both(fan_out: asyncio.Semaphore, bulkhead: Bulkhead, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await fan_out.acquire()
            try:
                await bulkhead.acquire(deadline)
            except BaseException:
                fan_out.release()
                raise
    except TimeoutError:
        raise Overloaded(NO_PERMIT) from None
    # The attempt before may have ended at this very deadline.
    if asyncio.get_running_loop().time() >= deadline:
        bulkhead.release()
        fan_out.release()
        raise Overloaded(NO_PERMIT)
