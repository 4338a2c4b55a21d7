import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any, Literal

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
    Unreachable,
    UpstreamStatus,
)
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Hedging
from app.resilience.latency import Latency
from app.resilience.layers.race import race
from app.resilience.mirrors import round_robin
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
ABSENT = NotFound("there is no such resource")
REFUSED = UpstreamStatus(400)
BUG = ZeroDivisionError("a bug")

Hedge = float | Literal["auto"]


@pytest.fixture
def events() -> list[Event]:
    return []


class Mirror:
    """Its attempts end in turn as events, after so many seconds, the last one over and over."""

    def __init__(self, *ends: tuple[float, BaseException | None], closing: float = 0.0) -> None:
        self._ends = list(ends)
        self._closing = closing
        self.answer = an_answer(b"%d" % id(self))
        self.began: list[float] = []
        self.closed = 0

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        seconds, end = self._ends.pop(0) if len(self._ends) > 1 else self._ends[0]
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            if self._closing:
                await asyncio.sleep(self._closing)
            self.closed += 1
            raise
        if end is not None:
            raise end
        return self.answer


def an_open_circuit(retry_after: float = 1.0) -> Mirror:
    return Mirror((0.0, CircuitOpen("resting", retry_after=retry_after)))


def known(p50: float, p95: float) -> Latency:
    latency = Latency()
    for seconds in [p50] * 19 + [p95]:
        latency.add(seconds)
    return latency


def a_budget_of(attempts: float) -> RetryBudget:
    budget = RetryBudget(0.0)
    budget.balance = attempts
    return budget


def racing(
    *mirrors: Fetch,
    hedge: Hedge = 1.0,
    budget: RetryBudget | None = None,
    latency: Latency | None = None,
    events: list[Event] | None = None,
) -> Fetch:
    return race(
        mirrors,
        hedge,
        budget or RetryBudget(0.2),
        latency or Latency(),
        ([] if events is None else events).append,
    )


async def alone(of: Awaitable[object], *leaves: float) -> object:
    """What `of` gives or raises; nothing that it began is left, and nothing was lost.

    It is cancelled after so many seconds, and again after so many more.
    """
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(of)
    for seconds in leaves:
        await asyncio.wait([task], timeout=seconds)
        task.cancel()
    end = await result_or_error(task)
    assert asyncio.all_tasks() == before
    del task
    gc.collect(1)
    assert lost == []
    return end


def schedule(*mirrors: Mirror) -> list[list[float]]:
    return [mirror.began for mirror in mirrors]


# In turn


async def test_mirrors_are_asked_in_turn() -> None:
    mirrors = [Mirror((0.0, None)) for _ in range(3)]
    fetch = round_robin(mirrors)
    calls = [a_call() for _ in range(6)]
    answers = [await fetch(call) for call in calls]
    assert answers == [mirrors[n % 3].answer for n in range(6)]
    assert [call.tally.mirror for call in calls] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("hedge", ["off", 1.0, "auto"])
async def test_a_call_that_comes_again_goes_on_to_the_next_mirror(
    hedge: Hedge | Literal["off"],
) -> None:
    mirrors = [Mirror((0.0, REFUSED)) for _ in range(3)]
    fetch = round_robin(mirrors) if hedge == "off" else racing(*mirrors, hedge=hedge)
    call, order = a_call(), []
    for _ in range(4):
        assert await result_or_error(fetch(call)) is REFUSED
        order.append(call.tally.mirror)
        await result_or_error(fetch(a_call()))  # whoever else is there does not change its way
    assert order == [0, 1, 2, 0]


async def test_an_open_circuit_is_passed_over() -> None:
    well, other = Mirror((0.0, None)), Mirror((0.0, None))
    fetch = round_robin([an_open_circuit(), an_open_circuit(), well, other])
    call = a_call()
    assert (await fetch(call), call.tally.mirror, now()) == (well.answer, 2, 0.0)
    assert other.began == []


@pytest.mark.parametrize("failure", [BROKEN, REFUSED, ABSENT, BUG])
async def test_only_an_open_circuit_is_passed_over(failure: Exception) -> None:
    other = Mirror((0.0, None))
    assert await result_or_error(round_robin([Mirror((1.0, failure)), other])(a_call())) is failure
    assert other.began == []


@pytest.mark.parametrize("hedge", ["off", 0.0, 1.0, "auto"])
async def test_when_all_circuits_are_open_the_one_that_closes_first_tells_when_to_come_back(
    hedge: Hedge | Literal["off"],
) -> None:
    mirrors = [an_open_circuit(0.75), an_open_circuit(0.25), an_open_circuit(0.5)]
    budget = a_budget_of(0)
    fetch = round_robin(mirrors) if hedge == "off" else racing(*mirrors, hedge=hedge, budget=budget)
    refusal = await alone(fetch(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now()) == (0.25, 0.0)
    assert schedule(*mirrors) == [[0.0]] * 3


async def test_a_single_mirror_is_asked_each_time() -> None:
    mirror = Mirror((0.0, None))
    assert round_robin([mirror]) is mirror


# Hedges


NEVER_ENDS = (60.0, BROKEN)


@pytest.mark.parametrize(
    ("hedge", "latency", "mirrors", "asked"),
    [
        # Each next one when the last is late, the first ones again if there are fewer than three.
        (1.0, None, 1, [[0, 1, 2]]),
        (1.0, None, 2, [[0, 2], [1]]),
        (0.5, None, 3, [[0], [0.5], [1]]),
        (1.0, None, 5, [[0], [1], [2], [3], [4]]),
        # All at once, and nobody twice but a single one.
        (0.0, None, 1, [[0, 0]]),
        (0.0, None, 2, [[0], [0]]),
        (0.0, None, 4, [[0], [0], [0], [0]]),
        # The live p95, but neither what is hardly late nor the time of the slow ones.
        ("auto", (1.0, 2.0), 2, [[0, 4], [2]]),
        ("auto", (1.0, 1.0), 2, [[0, 3], [1.5]]),
        ("auto", (1.0, 1.25), 1, [[0, 1.5, 3]]),
        ("auto", (1.0, 9.0), 2, [[0, 8], [4]]),
        ("auto", None, 3, [[0], [], []]),
    ],
)
async def test_who_is_asked_and_when(
    events: list[Event],
    hedge: Hedge,
    latency: tuple[float, float] | None,
    mirrors: int,
    asked: list[list[float]],
) -> None:
    slow = [Mirror(NEVER_ENDS) for _ in range(mirrors)]
    live = known(*latency) if latency else Latency()
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(*slow, hedge=hedge, latency=live, budget=budget, events=events)
    assert isinstance(await alone(fetch(call), 9.5), asyncio.CancelledError)
    assert schedule(*slow) == asked
    ordered = mirrors if hedge == 0 else 1
    hedges = sum(map(len, asked)) - ordered
    assert (call.tally.hedges, 10 - budget.balance) == (hedges, hedges)
    assert events == [Hedging(call)] * hedges
    assert [mirror.closed for mirror in slow] == [len(times) for times in asked]


async def test_calls_begin_with_each_mirror_in_turn() -> None:
    mirrors = [Mirror((0.0, None)) for _ in range(3)]
    fetch = racing(*mirrors)
    assert [await fetch(a_call()) for _ in range(4)] == [mirrors[n % 3].answer for n in range(4)]


@pytest.mark.parametrize(
    ("seconds", "winner", "end"),
    [((3.0, 0.5), 1, 1.5), ((1.25, 5.0), 0, 1.25), ((0.5, 0.5), 0, 0.5)],
)
async def test_the_first_good_answer_wins(
    seconds: tuple[float, float], winner: int, end: float
) -> None:
    mirrors = [Mirror((each, None)) for each in seconds]
    assert await alone(racing(*mirrors)(a_call())) is mirrors[winner].answer
    assert now() == end


async def test_a_single_mirror_that_is_late_is_asked_again_and_the_first_answer_wins() -> None:
    mirror = Mirror((60.0, None), (0.5, None))
    assert await alone(racing(mirror)(a_call())) is mirror.answer
    assert (mirror.began, now(), mirror.closed) == ([0.0, 1.0], 1.5, 1)


@pytest.mark.parametrize("failure", [BROKEN, UpstreamStatus(503), InvalidPayload("garbage")])
async def test_a_mirror_that_failed_makes_the_next_one_due_at_once(
    events: list[Event], failure: Failure
) -> None:
    broken, well = Mirror((0.25, failure)), Mirror((0.25, None))
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(broken, well, budget=budget, events=events)
    assert await alone(fetch(call)) is well.answer
    assert schedule(broken, well) == [[0.0], [0.25]]
    assert (budget.balance, events, call.tally.hedges) == (9.0, [Hedging(call)], 1)


@pytest.mark.parametrize("failure", [REFUSED, Overloaded("no capacity of ours")])
async def test_what_no_other_mirror_would_do_better_is_not_asked_of_one(failure: Failure) -> None:
    other = Mirror((0.0, None))
    assert await alone(racing(Mirror((0.25, failure)), other)(a_call())) is failure
    assert other.began == []


async def test_what_others_were_asked_already_is_waited_for() -> None:
    refusing, slow, other = Mirror((1.25, REFUSED)), Mirror((1.0, None)), Mirror((0.0, None))
    assert await alone(racing(refusing, slow, other)(a_call())) is slow.answer
    assert (now(), other.began) == (2.0, [])


@pytest.mark.parametrize("hedge", [1.0, "auto"])
async def test_a_failure_of_a_single_mirror_is_left_to_who_backs_off(hedge: Hedge) -> None:
    mirror = Mirror((0.5, BROKEN), (0.0, None))
    assert await alone(racing(mirror, hedge=hedge)(a_call())) is BROKEN
    assert mirror.began == [0.0]


async def test_a_failure_beside_a_hedge_of_a_single_mirror_makes_nothing_due() -> None:
    mirror = Mirror((1.75, None), (0.5, BROKEN))
    assert await alone(racing(mirror)(a_call())) is mirror.answer
    assert mirror.began == [0.0, 1.0]


async def test_when_all_mirrors_fail_the_last_failure_stands() -> None:
    last = UpstreamStatus(503)
    mirrors = Mirror((0.25, BROKEN)), Mirror((0.25, last)), an_open_circuit()
    assert await alone(racing(*mirrors)(a_call())) is last
    assert schedule(*mirrors) == [[0.0], [0.25], [0.5]]


@pytest.mark.parametrize("hedge", [0.0, 0.5])
async def test_that_there_is_no_such_resource_decides_at_once(hedge: float) -> None:
    absent, slow = Mirror((1.0, ABSENT)), Mirror((5.0, None))
    assert await alone(racing(absent, slow, hedge=hedge)(a_call())) is ABSENT
    assert (now(), slow.closed) == (1.0, 1)


async def test_an_open_circuit_costs_neither_time_nor_budget(events: list[Event]) -> None:
    well, call = Mirror((0.5, None)), a_call()
    fetch = racing(an_open_circuit(), an_open_circuit(), well, budget=a_budget_of(0), events=events)
    assert await alone(fetch(call)) is well.answer
    assert (well.began, events, call.tally.hedges) == ([0.0], [], 0)


async def test_a_hedge_that_meets_an_open_circuit_goes_on_to_the_next_for_the_same_price() -> None:
    slow, resting, well = Mirror((5.0, None)), an_open_circuit(), Mirror((0.5, None))
    call, budget = a_call(), a_budget_of(1)
    assert await alone(racing(slow, resting, well, budget=budget)(call)) is well.answer
    assert (schedule(slow, resting, well), budget.balance) == ([[0.0], [1.0], [1.0]], 0.0)


# What stops a hedge


@pytest.mark.parametrize("first", [(2.0, None), (0.5, BROKEN)])
async def test_without_budget_nobody_else_is_asked_and_that_is_told_once(
    events: list[Event], first: tuple[float, Exception | None]
) -> None:
    mirror, other, call, budget = Mirror(first), Mirror((0.0, None)), a_call(), a_budget_of(0.5)
    end = await alone(racing(mirror, other, budget=budget, events=events)(call))
    assert end is (first[1] or mirror.answer)
    assert (now(), other.began) == (first[0], [])
    assert (events, budget.balance, call.tally.hedges) == ([BudgetSpent(call)], 0.5, 0)


async def test_a_race_that_was_ordered_needs_no_budget(events: list[Event]) -> None:
    mirrors = [Mirror((3.0, None)), Mirror((2.0, None)), Mirror((1.0, None))]
    fetch = racing(*mirrors, hedge=0.0, budget=a_budget_of(0), events=events)
    assert await alone(fetch(a_call())) is mirrors[2].answer
    assert (schedule(*mirrors), now(), events) == ([[0.0]] * 3, 1.0, [])


@pytest.mark.parametrize("first", [(2.0, None), (1.0, BROKEN)], ids=["late", "failed"])
@pytest.mark.parametrize(("deadline", "hedged"), [(1.25, False), (1.5, False), (1.75, True)])
async def test_a_hedge_that_cannot_be_ready_in_time_is_not_begun(
    events: list[Event], first: tuple[float, Exception | None], deadline: float, hedged: bool
) -> None:
    mirror, other = Mirror(first), Mirror((0.5, None))
    fetch = racing(mirror, other, latency=known(0.5, 0.5), events=events)
    await result_or_error(fetch(a_call(a_context(deadline))))
    assert other.began == ([1.0] if hedged else [])
    assert [type(one) for one in events] == ([Hedging] if hedged else [])


async def test_hedges_stop_when_all_attempts_are_slow() -> None:
    """With no bound on the budget: it is what is learnt that stops them."""
    latency, upstream = known(0.1, 0.2), FakeUpstream(seconds=1.0)

    async def measured(call: Call) -> Answer:
        began = now()
        try:
            answer = await upstream(call)
        except asyncio.CancelledError:
            latency.add_unfinished(now() - began)
            raise
        latency.add(now() - began)
        return answer

    calls = [a_call(a_context(inf)) for _ in range(300)]
    fetch = racing(measured, measured, hedge="auto", budget=a_budget_of(inf), latency=latency)
    for call in calls:
        await fetch(call)
    assert calls[0].tally.hedges == 2
    assert [call.tally.hedges for call in calls[100:]] == [0] * 200


async def test_where_one_in_twenty_is_slow_hardly_a_call_is() -> None:
    mirror = Mirror(*[(10.0 if n % 20 == 7 else 0.1, None) for n in range(400)])
    latency = known(0.1, 10.0)
    fetch = racing(mirror, hedge="auto", latency=latency, budget=a_budget_of(inf))
    seconds = []
    for _ in range(300):
        began = now()
        await alone(fetch(a_call(a_context(inf))))
        seconds.append(now() - began)
    assert max(seconds) == pytest.approx(0.5)  # four medians until the hedge, one more for it
    assert len(mirror.began) <= 300 * 1.06


# What is left behind: nothing


async def test_losers_have_let_go_of_all_they_had_before_the_answer_is_given() -> None:
    winner = Mirror((1.0, None))
    losers = [Mirror(NEVER_ENDS, closing=each) for each in (0.25, 0.5, 0.25)]
    assert await alone(racing(*losers, winner, hedge=0.0)(a_call())) is winner.answer
    assert [loser.closed for loser in losers] == [1, 1, 1]
    assert now() == 1.5


async def test_whoever_leaves_leaves_nothing_behind() -> None:
    mirrors = [Mirror(NEVER_ENDS, closing=each) for each in (0.25, 0.5, 0.25)]
    end = await alone(racing(*mirrors, hedge=0.25)(a_call()), 2.0)
    assert isinstance(end, asyncio.CancelledError)
    assert [mirror.closed for mirror in mirrors] == [1, 1, 1]
    assert now() == 2.5


@pytest.mark.parametrize("first", [(1.0, None), NEVER_ENDS], ids=["after it is won", "before"])
async def test_whoever_leaves_while_losers_let_go_leaves_nothing_behind(
    first: tuple[float, Exception | None],
) -> None:
    mirrors = [Mirror(first), Mirror(NEVER_ENDS, closing=1.0), Mirror(NEVER_ENDS, closing=1.0)]
    end = await alone(racing(*mirrors, hedge=0.0)(a_call()), 1.25, 0.25)
    assert isinstance(end, asyncio.CancelledError)
    assert [mirror.closed for mirror in mirrors[1:]] == [1, 1]


@pytest.mark.parametrize("hedge", [0.0, 0.25])
async def test_a_bug_surfaces_as_itself_and_ends_the_race(hedge: float) -> None:
    buggy, slow = Mirror((1.0, BUG)), Mirror(NEVER_ENDS, closing=0.5)
    assert await alone(racing(buggy, slow, hedge=hedge, budget=a_budget_of(1))(a_call())) is BUG
    assert (now(), slow.closed) == (1.5, 1)


class Spoilsport(Mirror):
    """Does not even lose well."""

    def __init__(self, end: Exception) -> None:
        super().__init__(NEVER_ENDS)
        self._end = end

    async def __call__(self, call: Call) -> Answer:
        try:
            return await super().__call__(call)
        except asyncio.CancelledError:
            raise self._end from None


@pytest.mark.parametrize(
    "loser",
    [lambda: Mirror((1.0, BUG)), lambda: Spoilsport(BUG)],
    ids=["at the same time", "when it is cancelled"],
)
async def test_a_bug_does_not_go_down_with_a_lost_race(loser: Callable[[], Mirror]) -> None:
    winner, slow = Mirror((1.0, None)), Mirror(NEVER_ENDS, closing=0.5)
    assert await alone(racing(winner, loser(), slow, hedge=0.0)(a_call())) is BUG
    assert slow.closed == 1


async def test_a_loser_that_fails_when_it_is_cancelled_is_forgotten() -> None:
    winner = Mirror((1.0, None))
    assert await alone(racing(winner, Spoilsport(BROKEN), hedge=0.0)(a_call())) is winner.answer


@pytest.mark.parametrize("seconds", [0.0, 1.0])
@pytest.mark.parametrize("ends", [(BROKEN, None, BROKEN), (None, ABSENT, None), (ABSENT, BROKEN)])
async def test_all_that_end_at_the_same_time_are_heard(
    seconds: float, ends: Sequence[Exception | None]
) -> None:
    mirrors = [Mirror((seconds, end)) for end in ends]
    end = await alone(racing(*mirrors, hedge=0.0)(a_call()))
    assert end in [ABSENT, *(mirror.answer for mirror in mirrors)]


async def test_an_answer_that_came_with_a_failure_makes_nothing_else_due(
    events: list[Event],
) -> None:
    broken, well, other = Mirror((1.0, BROKEN)), Mirror((0.25, None)), Mirror((0.0, None))
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(broken, well, other, hedge=0.75, budget=budget, events=events)
    assert await alone(fetch(call)) is well.answer
    assert (other.began, budget.balance, events) == ([], 9.0, [Hedging(call)])


# Whatever happens


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
    st.sampled_from([Latency(), known(0.5, 1.0), known(1.0, 8.0)]),
    st.integers(0, 10),
    st.floats(0.1, 20) | st.just(inf),
    st.just(()) | st.lists(eighths, max_size=2),
)
def test_whatever_the_mirrors_do_the_first_to_decide_does_and_nothing_is_left(
    script: Sequence[Sequence[tuple[float, Exception | None]]],
    hedge: Hedge,
    latency: Latency,
    reserve: int,
    deadline: float,
    leaves: Sequence[float],
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
        end = await alone(fetch(call), *leaves)
        over = now()
        _check_bounds(attempts, call, events, budget, hedge, len(mirrors), reserve)
        assert all(one.end <= over for one in attempts)
        if not isinstance(end, asyncio.CancelledError):
            _check_result(end, attempts, inf if leaves else over)
            if reserve == 10 and deadline == inf:
                _check_nobody_was_forgotten(end, attempts, len(mirrors))

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
    most = max(mirrors, 3) if hedge != 0 else max(mirrors, 2)
    assert 1 <= len(attempts) <= most
    assert [one.mirror for one in attempts] == [n % mirrors for n in range(len(attempts))]
    hedges = call.tally.hedges
    # One that found a circuit open was events, and its price given back.
    assert events.count(Hedging(call)) >= hedges == reserve - budget.balance <= reserve
    at_first = mirrors if hedge == 0 else 1
    free = sum(isinstance(one.outcome, CircuitOpen) for one in attempts)
    assert len(attempts) <= at_first + hedges + free
    if not free:
        assert all(one.began < call.context.deadline for one in attempts[at_first:])
    assert all(one.began <= other.began for one, other in pairwise(attempts))


def _check_result(end: object, attempts: Sequence[Attempt], over: float) -> None:
    """The naive reference: of those that decide, the first in time."""
    deciding = [one for one in attempts if isinstance(one.outcome, Answer | NotFound)]
    if deciding:
        first = min(one.end for one in deciding)
        assert end in [one.outcome for one in deciding if one.end == first]
        assert over in (first, inf)
        return
    assert isinstance(end, Failure)
    failures = [one.outcome for one in attempts]
    asked = [failure for failure in failures if not isinstance(failure, CircuitOpen)]
    assert end in (asked or failures)
    assert over in (max(one.end for one in attempts), inf)


def _check_nobody_was_forgotten(end: object, attempts: Sequence[Attempt], mirrors: int) -> None:
    failures = [one.outcome for one in attempts if isinstance(one.outcome, Failure)]
    if isinstance(end, Failure) and REFUSED not in failures and ABSENT not in failures:
        assert len(attempts) >= mirrors
