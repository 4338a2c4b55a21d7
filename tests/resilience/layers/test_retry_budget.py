"""What stops a retry: the deadline and the budget; and what it waits for."""

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Event
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Retrying
from app.resilience.layers.timeout import timeout
from app.resilience.mirrors import RoundRobin
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    an_answer,
    now,
    on_virtual_time,
    result_or_error,
)
from tests.resilience.layers.retries import Scripted, a_round_robin, retried
from tests.resilience.states import a_budget_of

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")
NOT_ON_THE_SAME_MIRROR = [
    InvalidPayload("garbage"),
    UpstreamStatus(404),
    NotFound("there is no such resource"),
    CircuitOpen("resting", retry_after=0.1),
    Overloaded("no capacity", retry_after=0.1),
]


@pytest.mark.parametrize(
    "failure", [UpstreamStatus(503, retry_after=2.0), TooManyRequests("429", retry_after=2.0)]
)
@pytest.mark.parametrize(("deadline", "began"), [(2.5, [0.0, 2.0]), (2.0, [0.0]), (1.0, [0.0])])
async def test_retry_waits_for_retry_after_if_that_is_before_the_deadline(
    failure: Failure, deadline: float, began: list[float]
) -> None:
    upstream = Scripted(failure, None)
    result = await result_or_error(retried(upstream)(a_call(a_context(deadline))))
    assert upstream.began == began
    assert now() == began[-1]  # without a retry there is no wait either
    assert isinstance(result, Answer) if len(began) == 2 else result is failure


# Retry-After


BUSY = UpstreamStatus(503, retry_after=2.0)


def a_round_robin_with(*paused: int, mirrors: int) -> RoundRobin:
    turns = a_round_robin(mirrors)
    for mirror in paused:
        turns.on_failure(mirror, a_call(), BUSY)
    return turns


@pytest.mark.parametrize(
    ("mirrors", "paused", "began"),
    [
        (1, (0,), [0.0, 2.0]),
        (2, (0, 1), [0.0, 2.0]),
        (2, (0,), [0.0, 0.025]),
        (3, (0, 2), [0.0, 0.025]),
    ],
)
async def test_retry_does_not_wait_for_retry_after_if_there_is_another_mirror(
    mirrors: int, paused: Sequence[int], began: list[float]
) -> None:
    upstream, turns = Scripted(BUSY, None), a_round_robin_with(*paused, mirrors=mirrors)
    assert isinstance(await retried(upstream, turns=turns)(a_call()), Answer)
    assert upstream.began == began


async def test_retry_goes_to_another_mirror_though_retry_after_is_beyond_the_deadline() -> None:
    upstream = Scripted(UpstreamStatus(503, retry_after=60.0), None)
    turns = a_round_robin_with(0, mirrors=2)
    assert isinstance(await retried(upstream, turns=turns)(a_call(a_context(1.0))), Answer)


# The deadline


@pytest.mark.parametrize(
    ("deadline", "failure", "out_of_time"),
    [
        (0.52, BROKEN, True),
        (10.0, BROKEN, False),
        (0.52, UpstreamStatus(404), False),  # it would not be tried again anyway
        (1.0, BUSY, True),
    ],
)
async def test_retry_notes_that_only_the_deadline_kept_the_call_from_another_try(
    deadline: float, failure: Failure, out_of_time: bool
) -> None:
    call = a_call(a_context(deadline))
    call.tally.out_of_time = not out_of_time  # of an earlier flight
    await result_or_error(retried(Scripted(failure), retries=1, p50=0.5)(call))
    assert call.tally.out_of_time is out_of_time


@pytest.mark.parametrize("retry_after", [None, 0.025])
@pytest.mark.parametrize(("deadline", "attempts"), [(0.52, 1), (0.525, 1), (0.53, 2)])
async def test_retry_that_cannot_end_before_the_deadline_is_not_begun(
    events: list[Event], retry_after: float | None, deadline: float, attempts: int
) -> None:
    upstream, budget = Scripted(UpstreamStatus(503, retry_after=retry_after)), RetryBudget(0.0)
    fetch = retried(upstream, events, retries=1, budget=budget, p50=0.5)
    await result_or_error(fetch(a_call(a_context(deadline))))
    assert len(upstream.began) == attempts
    assert budget.balance == 11 - attempts
    assert now() == pytest.approx(0.025 * (attempts - 1))
    assert [type(event) for event in events] == [Retrying] * (attempts - 1)


async def test_retry_without_budget_is_not_begun_and_budget_spent_is_emitted(
    events: list[Event],
) -> None:
    upstream, call = Scripted(BROKEN), a_call()
    assert await result_or_error(retried(upstream, events, budget=a_budget_of(1))(call)) is BROKEN
    assert events == [Retrying(call, BROKEN, 0.025), BudgetSpent(call)]
    assert (upstream.began, now(), call.tally.retries) == ([0.0, 0.025], 0.025, 1)


@pytest.mark.parametrize(
    "failure", [UpstreamStatus(404), UpstreamStatus(503, retry_after=60.0), ZeroDivisionError()]
)
async def test_retry_budget_is_not_used_for_a_call_that_would_not_be_retried_anyway(
    events: list[Event], failure: Exception
) -> None:
    for retries, budget in ((2, a_budget_of(0)), (2, a_budget_of(1)), (0, a_budget_of(1))):
        balance = budget.balance
        await result_or_error(
            retried(Scripted(failure), events, retries=retries, budget=budget)(a_call())
        )
        assert (budget.balance, events) == (balance, [])


async def test_retry_budget_gets_the_deposit_of_every_call_however_it_ends() -> None:
    budget = RetryBudget(0.25)
    for _ in range(10):
        budget.try_withdraw()
    for end in (None, UpstreamStatus(404), ZeroDivisionError(), None):
        await result_or_error(retried(Scripted(end), budget=budget)(a_call()))
    assert budget.balance == 1.0


Attempt = tuple[float, Exception | None]

attempts = st.tuples(
    st.floats(0, 0.5),
    st.one_of(
        st.sampled_from([None, BROKEN, *NOT_ON_THE_SAME_MIRROR, ZeroDivisionError()]),
        st.floats(0, 1).map(lambda after: UpstreamStatus(503, retry_after=after)),
    ),
)


@given(
    st.lists(attempts, min_size=1, max_size=20),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0.01, 2)), min_size=1, max_size=60),
    st.floats(0, 1),
    st.integers(0, 10),
    st.randoms(use_true_random=False),
)
def test_retry_keeps_to_its_budget_and_to_the_deadline_whatever_the_attempts_and_calls(
    attempts: Sequence[Attempt],
    calls: Sequence[tuple[float, float]],
    share: float,
    retries: int,
    random: Random,
) -> None:
    began: list[float] = []

    async def upstream(_: Call) -> Answer:
        seconds, error = attempts[len(began) % len(attempts)]
        began.append(now())
        await asyncio.sleep(seconds)
        if error is not None:
            raise error
        return an_answer()

    async def main() -> None:
        events: list[Event] = []
        budget = RetryBudget(share)
        fetch = retried(
            timeout(0.4)(upstream),
            events,
            retries=retries,
            budget=budget,
            turns=a_round_robin(2),
            random=random.random,
        )

        async def run(start: float, seconds: float) -> None:
            await asyncio.sleep(start)
            call = a_call(a_context(deadline=start + seconds))
            result = await result_or_error(fetch(call))
            assert isinstance(result, Answer | Failure | ZeroDivisionError)
            assert now() <= start + seconds + 1e-6
            assert call.tally.retries <= retries

        await asyncio.gather(*(run(*times) for times in calls))
        assert len(began) <= len(calls) * (1 + share) + 10 + 1e-9
        assert sum(isinstance(event, Retrying) for event in events) >= len(began) - len(calls)

    on_virtual_time(main)


async def test_retry_budget_of_a_fifth_adds_a_fifth_of_the_attempts_in_a_full_outage() -> None:
    upstream, budget = FakeUpstream(seconds=0.05, error=BROKEN), RetryBudget(0.2)
    fetch = retried(upstream, budget=budget, random=Random(1).random)

    async def run(start: float) -> None:
        await asyncio.sleep(start)
        assert await result_or_error(fetch(a_call(a_context(start + 2)))) is BROKEN

    await asyncio.gather(*(run(n / 100) for n in range(1000)))
    assert 1200 <= len(upstream.began) <= 1210
