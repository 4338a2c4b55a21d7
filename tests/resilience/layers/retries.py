"""A retry layer, the policies that it uses, and attempts that end as scripted."""

from collections.abc import Callable

from app.call import Answer, Call, Event, Fetch
from app.resilience.budget import RetryBudget
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.retry import retry
from app.resilience.mirrors import RoundRobin
from tests.fakes import an_answer, now
from tests.resilience.states import a_latency


def a_round_robin(mirrors: int) -> RoundRobin:
    return RoundRobin(mirrors, now)


def retried(
    fetch: Fetch,
    events: list[Event] | None = None,
    *,
    retries: int = 2,
    budget: RetryBudget | None = None,
    failures: KeyFailures | None = None,
    p50: float | None = None,
    turns: RoundRobin | None = None,
    random: Callable[[], float] = lambda: 1.0,
) -> Fetch:
    """By default there is one mirror, and `random` gives its maximum: backoffs are the longest."""
    return retry(
        retries,
        budget or RetryBudget(0.2),
        KeyFailures() if failures is None else failures,
        Latency() if p50 is None else a_latency(p50),
        turns or a_round_robin(1),
        ([] if events is None else events).append,
        random=random,
    )(fetch)


class Scripted:
    """Attempts end as the next of `ends`, with an error or without; the last one repeats."""

    def __init__(self, *ends: Exception | None) -> None:
        self._ends = list(ends)
        self.began: list[float] = []

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        error = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        if error is not None:
            raise error
        return an_answer()
