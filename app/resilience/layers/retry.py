"""Retries: what failed by chance is asked again, as long as there is time and budget for it."""

import asyncio
from collections.abc import Callable, Sequence

from app.call import Answer, Call, Emit, Fetch, Layer
from app.errors import Failure, Timeout
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Retrying
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.mirrors import RoundRobin

_FIRST_BOUND = 0.025
_MAX_BOUND = 0.25
"""Seconds. Full jitter (Brooker, "Exponential Backoff and Jitter", AWS 2015): any wait from zero
to a bound that doubles. Those who failed together must not come back together."""


def retry(
    retries: int,
    budget: RetryBudget,
    failures: KeyFailures,
    latency: Latency,
    turns: RoundRobin,
    emit: Emit,
    *,
    random: Callable[[], float],
) -> Layer:
    """Ask again up to `retries` times. We only ever GET, so asking again is always allowed.

    Where there are several mirrors, the next attempt goes to another one, which may know better
    than one that sends garbage, and need not wait until this one wants to be asked again
    (`Retry-After`). A key that only fails has no more retries, and one that fails too often has
    those that the others can spare. `random` gives a number from 0 to 1.
    """
    retryable = ("any_mirror", "other_mirror") if turns.mirrors > 1 else ("any_mirror",)

    def layer(fetch: Fetch) -> Fetch:
        time = asyncio.get_running_loop().time

        async def retried(call: Call) -> Answer:
            budget.deposit()
            call.tally.out_of_time = False
            most = retries if failures.may_have_extra(call.key, time()) else 0
            failed: list[Failure] = []
            while True:
                try:
                    return await fetch(call)
                except Failure as failure:
                    failed.append(failure)
                    wait = backoff(call, failed, most)
                    if wait is None:
                        raise _most_telling(failed) from None
                    call.tally.retries += 1
                    emit(Retrying(call, failure, wait))
                await asyncio.sleep(wait)

        def backoff(call: Call, failed: Sequence[Failure], most: int) -> float | None:
            """Seconds until the next try; None if there is to be none."""
            failure, tried = failed[-1], len(failed)
            if tried > most or failure.policy.retry_on not in retryable:
                return None
            wait = None if turns.has_other(call) else failure.retry_after
            if wait is None:
                wait = random() * min(_FIRST_BOUND * 2 ** (tried - 1), _MAX_BOUND)
            # What cannot be ready in time is not begun, nor slept for.
            if time() + wait + (latency.p50 or 0.0) >= call.context.deadline:
                call.tally.out_of_time = True
                return None
            if not budget.try_withdraw(spare=failures.is_spent(call.key, time())):
                emit(BudgetSpent(call))
                return None
            return wait

        return retried

    return layer


def _most_telling(failures: Sequence[Failure]) -> Failure:
    """The last one; but of timeouts the longest, which was not cut short by the deadline."""
    last = failures[-1]
    if not isinstance(last, Timeout):
        return last
    timeouts = (failure for failure in failures if isinstance(failure, Timeout))
    return max(timeouts, key=lambda timeout: timeout.allotted)
