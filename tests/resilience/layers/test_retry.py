import asyncio
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Event, Fetch
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Retrying
from app.resilience.latency import Latency
from app.resilience.layers.retry import retry
from app.resilience.layers.timeout import timeout
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    an_answer,
    now,
    on_virtual_time,
    result_or_error,
)
from tests.resilience.states import a_budget_of, a_latency

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


def retried(
    fetch: Fetch,
    events: list[Event] | None = None,
    *,
    retries: int = 2,
    budget: RetryBudget | None = None,
    p50: float | None = None,
    other_mirrors: bool = False,
    random: Callable[[], float] = lambda: 1.0,
) -> Fetch:
    """By default, `random` gives its maximum, so that every backoff is the longest."""
    return retry(
        retries,
        budget or RetryBudget(0.2),
        Latency() if p50 is None else a_latency(p50),
        ([] if events is None else events).append,
        other_mirrors=other_mirrors,
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


async def test_retry_passes_on_a_good_answer_and_withdraws_no_budget(events: list[Event]) -> None:
    upstream, budget, call = FakeUpstream(), RetryBudget(0.0), a_call()
    assert isinstance(await retried(upstream, events, budget=budget)(call), Answer)
    assert (upstream.began, budget.balance, call.tally.retries, events) == ([0.0], 10.0, 0, [])


ANY_MIRROR = [
    Timeout("late"),
    Unreachable("broken"),
    UpstreamStatus(500),
    UpstreamStatus(503),
    UpstreamStatus(408),
    TooManyRequests("429"),
]
NEVER = [
    UpstreamStatus(302),
    UpstreamStatus(400),
    UpstreamStatus(404),
    NotFound("there is no such resource"),
    CircuitOpen("resting", retry_after=0.1),
    Overloaded("no capacity", retry_after=0.1),
]
OTHER_MIRROR = InvalidPayload("garbage")


@pytest.mark.parametrize(
    ("failure", "other_mirrors", "attempts"),
    [
        *((failure, other_mirrors, 2) for failure in ANY_MIRROR for other_mirrors in (False, True)),
        *((failure, other_mirrors, 1) for failure in NEVER for other_mirrors in (False, True)),
        (OTHER_MIRROR, True, 2),
        (OTHER_MIRROR, False, 1),
    ],
    ids=repr,
)
async def test_retry_follows_a_failure_only_where_another_attempt_may_succeed(
    events: list[Event], failure: Failure, other_mirrors: bool, attempts: int
) -> None:
    upstream, call = Scripted(failure, None), a_call()
    result = await result_or_error(retried(upstream, events, other_mirrors=other_mirrors)(call))
    assert len(upstream.began) == attempts
    assert isinstance(result, Answer) if attempts == 2 else result is failure
    assert call.tally.retries == len(events) == attempts - 1


def test_retry_is_tested_with_every_kind_of_failure() -> None:
    kinds = {type(failure) for failure in [*ANY_MIRROR, *NEVER, OTHER_MIRROR]}
    assert kinds == {*Failure.__subclasses__(), *Overloaded.__subclasses__()}


async def test_retry_does_not_follow_a_bug(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    upstream = Scripted(bug, None)
    assert await result_or_error(retried(upstream, events)(a_call())) is bug
    assert (upstream.began, events) == ([0.0], [])


@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
async def test_retry_backoff_is_random_up_to_a_bound_that_doubles_to_a_quarter_of_a_second(
    events: list[Event], random: float
) -> None:
    upstream, call = Scripted(BROKEN), a_call()
    result = await result_or_error(
        retried(upstream, events, retries=6, random=lambda: random)(call)
    )
    backoffs = [random * bound for bound in (0.025, 0.05, 0.1, 0.2, 0.25, 0.25)]
    assert result is BROKEN
    assert upstream.began == pytest.approx([sum(backoffs[:n]) for n in range(7)])
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [event.seconds for event in retries] == pytest.approx(backoffs)
    assert events == [Retrying(call, BROKEN, event.seconds) for event in retries]


async def test_retry_backoff_of_each_call_begins_with_the_shortest() -> None:
    fetch = retried(Scripted(BROKEN), retries=1)
    for n in range(1, 4):
        await result_or_error(fetch(a_call()))
        assert now() == pytest.approx(n * 0.025)


@pytest.mark.parametrize("retries", [0, 1, 2, 10])
async def test_retry_makes_at_most_so_many_more_attempts(retries: int) -> None:
    upstream, call = Scripted(BROKEN), a_call()
    assert await result_or_error(retried(upstream, retries=retries)(call)) is BROKEN
    assert (len(upstream.began), call.tally.retries) == (retries + 1, retries)


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


LONG, SHORT = Timeout("no answer within 0.8 s", allotted=0.8), Timeout("within 0.3 s", allotted=0.3)


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ((BROKEN, UpstreamStatus(503)), 1),
        ((LONG, BROKEN), 1),
        ((BROKEN, SHORT), 1),
        ((SHORT, LONG), 1),
        ((LONG, SHORT), 0),
        ((SHORT, LONG, BROKEN, SHORT), 1),
    ],
    ids=repr,
)
async def test_retry_raises_the_last_failure_but_of_timeouts_the_longest(
    failures: Sequence[Failure], raised: int
) -> None:
    fetch = retried(Scripted(*failures), retries=len(failures) - 1)
    assert await result_or_error(fetch(a_call())) is failures[raised]


async def test_retry_is_not_begun_for_a_call_that_was_cancelled_during_the_backoff() -> None:
    upstream = Scripted(TooManyRequests("429", retry_after=1.0), None)
    task = asyncio.ensure_future(retried(upstream)(a_call()))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(5)
    assert task.cancelled()
    assert upstream.began == [0.0]


Attempt = tuple[float, Exception | None]

attempts = st.tuples(
    st.floats(0, 0.5),
    st.one_of(
        st.sampled_from([None, BROKEN, OTHER_MIRROR, *NEVER, ZeroDivisionError()]),
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
            other_mirrors=True,
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
