import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Event, Fetch
from app.errors import CircuitOpen, Failure, InvalidPayload, NotFound
from app.resilience.budget import RetryBudget
from app.resilience.events import Hedging
from app.resilience.latency import Latency
from tests.fakes import a_call, a_context, now, on_virtual_time
from tests.resilience.races import (
    ABSENT,
    BROKEN,
    REFUSED,
    Hedge,
    Mirror,
    racing,
    result_leaving_nothing,
)
from tests.resilience.states import a_budget_of, a_latency


@dataclass
class Attempt:
    mirror: int
    began: float
    end: float
    outcome: Answer | Exception


OUTCOMES: list[Exception | None] = [
    None,
    BROKEN,
    InvalidPayload("garbage"),
    REFUSED,
    ABSENT,
    CircuitOpen("resting", retry_after=1.0),
]
eighths = st.integers(0, 40).map(lambda n: n / 8)
attempt = st.tuples(eighths, st.sampled_from(OUTCOMES))


@given(
    st.lists(st.lists(attempt, min_size=1, max_size=3), min_size=1, max_size=5),
    st.integers(0, 24).map(lambda n: n / 8) | st.just("auto"),
    st.sampled_from([Latency(), a_latency(0.5, 1.0), a_latency(1.0, 8.0)]),
    st.integers(0, 10),
    st.floats(0.1, 20) | st.just(inf),
    st.just(()) | st.lists(eighths, max_size=2),
)
def test_race_with_hedges_agrees_with_a_naive_reference_and_leaves_nothing_in_flight(
    script: Sequence[Sequence[tuple[float, Exception | None]]],
    hedge: Hedge,
    latency: Latency,
    reserve: int,
    deadline: float,
    cancel_after: Sequence[float],
) -> None:
    attempts: list[Attempt] = []

    def recorded(number: int, mirror: Mirror) -> Fetch:
        async def fetch(call: Call) -> Answer:
            one = Attempt(number, now(), inf, BROKEN)
            attempts.append(one)
            try:
                one.outcome = await mirror(call)
            except Exception as error:
                one.outcome = error
                raise
            finally:
                one.end = now()
            return one.outcome

        return fetch

    async def main() -> None:
        mirrors = [recorded(n, Mirror(*ends)) for n, ends in enumerate(script)]
        events: list[Event] = []
        call, budget = a_call(a_context(deadline)), a_budget_of(reserve)
        fetch = racing(*mirrors, hedge=hedge, budget=budget, latency=latency, events=events)
        result = await result_leaving_nothing(fetch(call), *cancel_after)
        end = now()
        _check_bounds(attempts, call, events, budget, hedge, len(mirrors), reserve)
        assert all(one.end <= end for one in attempts)
        if not isinstance(result, asyncio.CancelledError):
            _check_result(result, attempts, inf if cancel_after else end)
            if reserve == 10 and deadline == inf:
                _check_every_mirror_was_asked(result, attempts, len(mirrors))

    on_virtual_time(main)


def _check_bounds(
    attempts: Sequence[Attempt],
    call: Call,
    events: Sequence[Event],
    budget: RetryBudget,
    hedge: Hedge,
    mirrors: int,
    reserve: int,
) -> None:
    max_attempts = max(mirrors, 3) if hedge != 0 else max(mirrors, 2)
    assert 1 <= len(attempts) <= max_attempts
    assert [one.mirror for one in attempts] == [n % mirrors for n in range(len(attempts))]
    hedges = call.tally.hedges
    # A hedge that met an open circuit breaker was emitted, and its budget refunded.
    assert events.count(Hedging(call)) >= hedges == reserve - budget.balance <= reserve
    at_first = mirrors if hedge == 0 else 1
    free = sum(isinstance(one.outcome, CircuitOpen) for one in attempts)
    assert len(attempts) <= at_first + hedges + free
    if not free:
        assert all(one.began < call.context.deadline for one in attempts[at_first:])
    assert all(one.began <= other.began for one, other in pairwise(attempts))


def _check_result(result: object, attempts: Sequence[Attempt], end: float) -> None:
    """The naive reference: an answer or a `NotFound` decides, and of several the first in time.

    `end` is infinite if it is not known.
    """
    deciding = [one for one in attempts if isinstance(one.outcome, Answer | NotFound)]
    if deciding:
        first = min(one.end for one in deciding)
        assert result in [one.outcome for one in deciding if one.end == first]
        assert end in (first, inf)
        return
    assert isinstance(result, Failure)
    failures = [one.outcome for one in attempts]
    of_mirrors = [failure for failure in failures if not isinstance(failure, CircuitOpen)]
    assert result in (of_mirrors or failures)
    assert end in (max(one.end for one in attempts), inf)


def _check_every_mirror_was_asked(
    result: object, attempts: Sequence[Attempt], mirrors: int
) -> None:
    failures = [one.outcome for one in attempts if isinstance(one.outcome, Failure)]
    if isinstance(result, Failure) and REFUSED not in failures and ABSENT not in failures:
        assert len(attempts) >= mirrors
