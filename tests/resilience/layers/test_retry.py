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

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


@pytest.fixture
def events() -> list[Event]:
    return []


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
    """With a random number that is always the greatest, so that every wait is the longest."""
    latency = Latency()
    for _ in range(20 if p50 is not None else 0):
        latency.add(p50 or 0.0)
    return retry(
        retries,
        budget or RetryBudget(0.2),
        latency,
        ([] if events is None else events).append,
        other_mirrors=other_mirrors,
        random=random,
    )(fetch)


def a_budget_of(attempts: int) -> RetryBudget:
    budget = RetryBudget(0.0)
    for _ in range(10 - attempts):
        budget.try_withdraw()
    return budget


class Script:
    """A fetch that ends each time as the next one in turn, the last one over and over."""

    def __init__(self, *ends: Exception | None) -> None:
        self._ends = list(ends)
        self.began: list[float] = []

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        if end is not None:
            raise end
        return an_answer()


async def test_a_good_answer_is_the_answer_and_costs_nothing(events: list[Event]) -> None:
    upstream, budget, call = FakeUpstream(), RetryBudget(0.0), a_call()
    assert isinstance(await retried(upstream, events, budget=budget)(call), Answer)
    assert (upstream.began, budget.balance, call.tally.retries, events) == ([0.0], 10.0, 0, [])


ANYWHERE = [
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
GARBAGE = InvalidPayload("garbage")


@pytest.mark.parametrize(
    ("failure", "other_mirrors", "attempts"),
    [
        *((failure, other_mirrors, 2) for failure in ANYWHERE for other_mirrors in (False, True)),
        *((failure, other_mirrors, 1) for failure in NEVER for other_mirrors in (False, True)),
        (GARBAGE, True, 2),
        (GARBAGE, False, 1),
    ],
    ids=repr,
)
async def test_only_what_may_go_better_next_time_is_asked_again(
    events: list[Event], failure: Failure, other_mirrors: bool, attempts: int
) -> None:
    upstream, call = Script(failure, None), a_call()
    end = await result_or_error(retried(upstream, events, other_mirrors=other_mirrors)(call))
    assert len(upstream.began) == attempts
    assert isinstance(end, Answer) if attempts == 2 else end is failure
    assert call.tally.retries == len(events) == attempts - 1


def test_every_kind_of_failure_is_known_to_be_asked_again_or_not() -> None:
    kinds = {type(failure) for failure in [*ANYWHERE, *NEVER, GARBAGE]}
    assert kinds == {*Failure.__subclasses__(), *Overloaded.__subclasses__()}


async def test_a_bug_is_not_asked_again(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    upstream = Script(bug, None)
    assert await result_or_error(retried(upstream, events)(a_call())) is bug
    assert (upstream.began, events) == ([0.0], [])


@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
async def test_a_wait_is_a_random_part_of_a_bound_that_doubles_to_a_quarter_of_a_second(
    events: list[Event], random: float
) -> None:
    upstream, call = Script(BROKEN), a_call()
    end = await result_or_error(retried(upstream, events, retries=6, random=lambda: random)(call))
    waits = [random * bound for bound in (0.025, 0.05, 0.1, 0.2, 0.25, 0.25)]
    assert end is BROKEN
    assert upstream.began == pytest.approx([sum(waits[:n]) for n in range(7)])
    retryings = [one for one in events if isinstance(one, Retrying)]
    assert [one.seconds for one in retryings] == pytest.approx(waits)
    assert events == [Retrying(call, BROKEN, one.seconds) for one in retryings]


async def test_each_call_begins_with_the_shortest_wait() -> None:
    fetch = retried(Script(BROKEN), retries=1)
    for n in range(1, 4):
        await result_or_error(fetch(a_call()))
        assert now() == pytest.approx(n * 0.025)


@pytest.mark.parametrize("retries", [0, 1, 2, 10])
async def test_a_call_is_retried_so_many_times_at_most(retries: int) -> None:
    upstream, call = Script(BROKEN), a_call()
    assert await result_or_error(retried(upstream, retries=retries)(call)) is BROKEN
    assert (len(upstream.began), call.tally.retries) == (retries + 1, retries)


@pytest.mark.parametrize(
    "failure", [UpstreamStatus(503, retry_after=2.0), TooManyRequests("429", retry_after=2.0)]
)
@pytest.mark.parametrize(("deadline", "began"), [(2.5, [0.0, 2.0]), (2.0, [0.0]), (1.0, [0.0])])
async def test_when_to_come_back_is_the_upstreams_word_unless_that_is_too_late(
    failure: Failure, deadline: float, began: list[float]
) -> None:
    upstream = Script(failure, None)
    end = await result_or_error(retried(upstream)(a_call(a_context(deadline))))
    assert upstream.began == began
    assert now() == began[-1]  # nobody sleeps for what cannot be
    assert isinstance(end, Answer) if len(began) == 2 else end is failure


@pytest.mark.parametrize("retry_after", [None, 0.025])
@pytest.mark.parametrize(("deadline", "attempts"), [(0.52, 1), (0.525, 1), (0.53, 2)])
async def test_what_cannot_be_ready_before_the_deadline_is_not_begun(
    events: list[Event], retry_after: float | None, deadline: float, attempts: int
) -> None:
    upstream, budget = Script(UpstreamStatus(503, retry_after=retry_after)), RetryBudget(0.0)
    fetch = retried(upstream, events, retries=1, budget=budget, p50=0.5)
    await result_or_error(fetch(a_call(a_context(deadline))))
    assert len(upstream.began) == attempts
    assert budget.balance == 11 - attempts
    assert now() == pytest.approx(0.025 * (attempts - 1))
    assert [type(one) for one in events] == [Retrying] * (attempts - 1)


async def test_when_the_budget_is_spent_the_failure_stands_and_that_is_told(
    events: list[Event],
) -> None:
    upstream, call = Script(BROKEN), a_call()
    assert await result_or_error(retried(upstream, events, budget=a_budget_of(1))(call)) is BROKEN
    assert events == [Retrying(call, BROKEN, 0.025), BudgetSpent(call)]
    assert (upstream.began, now(), call.tally.retries) == ([0.0, 0.025], 0.025, 1)


@pytest.mark.parametrize(
    "failure", [UpstreamStatus(404), UpstreamStatus(503, retry_after=60.0), ZeroDivisionError()]
)
async def test_the_budget_is_not_asked_for_what_would_not_be_retried_anyway(
    events: list[Event], failure: Exception
) -> None:
    for retries, budget in ((2, a_budget_of(0)), (2, a_budget_of(1)), (0, a_budget_of(1))):
        left = budget.balance
        await result_or_error(
            retried(Script(failure), events, retries=retries, budget=budget)(a_call())
        )
        assert (budget.balance, events) == (left, [])


async def test_every_call_earns_its_share_whatever_becomes_of_it() -> None:
    budget = RetryBudget(0.25)
    for _ in range(10):
        budget.try_withdraw()
    for end in (None, UpstreamStatus(404), ZeroDivisionError(), None):
        await result_or_error(retried(Script(end), budget=budget)(a_call()))
    assert budget.balance == 1.0


LONG, SHORT = Timeout("no answer within 0.8 s", allotted=0.8), Timeout("within 0.3 s", allotted=0.3)


@pytest.mark.parametrize(
    ("ends", "events"),
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
async def test_the_last_failure_stands_but_of_time_outs_the_longest(
    ends: Sequence[Failure], events: int
) -> None:
    end = await result_or_error(retried(Script(*ends), retries=len(ends) - 1)(a_call()))
    assert end is ends[events]


async def test_who_leaves_while_it_waits_is_not_asked_for_again() -> None:
    upstream = Script(TooManyRequests("429", retry_after=1.0), None)
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
        st.sampled_from([None, BROKEN, GARBAGE, *NEVER, ZeroDivisionError()]),
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
def test_whatever_happens_attempts_and_time_stay_within_their_bounds(
    attempts: Sequence[Attempt],
    calls: Sequence[tuple[float, float]],
    share: float,
    retries: int,
    random: Random,
) -> None:
    """Attempts end as they please, but by the deadline; calls come when they please."""
    began: list[float] = []

    async def send(_: Call) -> Answer:
        seconds, end = attempts[len(began) % len(attempts)]
        began.append(now())
        await asyncio.sleep(seconds)
        if end is not None:
            raise end
        return an_answer()

    async def main() -> None:
        events: list[Event] = []
        budget = RetryBudget(share)
        fetch = retried(
            timeout(0.4)(send),
            events,
            retries=retries,
            budget=budget,
            other_mirrors=True,
            random=random.random,
        )

        async def one(start: float, patience: float) -> None:
            await asyncio.sleep(start)
            call = a_call(a_context(deadline=start + patience))
            end = await result_or_error(fetch(call))
            assert isinstance(end, Answer | Failure | ZeroDivisionError)
            assert now() <= start + patience + 1e-6
            assert call.tally.retries <= retries

        await asyncio.gather(*(one(*times) for times in calls))
        assert len(began) <= len(calls) * (1 + share) + 10 + 1e-9
        assert sum(isinstance(one, Retrying) for one in events) >= len(began) - len(calls)

    on_virtual_time(main)


async def test_a_full_outage_costs_a_quarter_more_attempts_at_most() -> None:
    upstream, budget = FakeUpstream(seconds=0.05, ending=BROKEN), RetryBudget(0.2)
    fetch = retried(upstream, budget=budget, random=Random(1).random)

    async def one(start: float) -> None:
        await asyncio.sleep(start)
        assert await result_or_error(fetch(a_call(a_context(start + 2)))) is BROKEN

    await asyncio.gather(*(one(n / 100) for n in range(1000)))
    assert 1200 <= len(upstream.began) <= 1210
