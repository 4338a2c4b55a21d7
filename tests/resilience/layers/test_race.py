import asyncio
from math import inf

import pytest

from app.call import Answer, Call, Event
from app.errors import CircuitOpen, Failure, InvalidPayload, Overloaded, UpstreamStatus
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Hedging
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from tests.fakes import FakeUpstream, a_call, a_context, now, result_or_error
from tests.resilience.races import (
    ABSENT,
    BROKEN,
    REFUSED,
    Hedge,
    Mirror,
    an_open_circuit,
    attempts_of,
    racing,
    result_leaving_nothing,
)
from tests.resilience.states import a_budget_of, a_latency, failed

pytestmark = pytest.mark.anyio

NEVER_ENDS = (60.0, BROKEN)


@pytest.mark.parametrize(
    ("hedge", "latency", "mirrors", "attempts"),
    [
        # The next mirror when the last one is late, the first one again if there are fewer than 3.
        (1.0, None, 1, [[0, 1, 2]]),
        (1.0, None, 2, [[0, 2], [1]]),
        (0.5, None, 3, [[0], [0.5], [1]]),
        (1.0, None, 5, [[0], [1], [2], [3], [4]]),
        # All at once; a single mirror twice.
        (0.0, None, 1, [[0, 0]]),
        (0.0, None, 2, [[0], [0]]),
        (0.0, None, 4, [[0], [0], [0], [0]]),
        # After the live p95, but within 1.5 and 4 medians.
        ("auto", (1.0, 2.0), 2, [[0, 4], [2]]),
        ("auto", (1.0, 1.0), 2, [[0, 3], [1.5]]),
        ("auto", (1.0, 1.25), 1, [[0, 1.5, 3]]),
        ("auto", (1.0, 9.0), 2, [[0, 8], [4]]),
        ("auto", None, 3, [[0], [], []]),
    ],
)
async def test_hedges_go_out_to_the_next_mirror_after_each_hedge_delay(
    events: list[Event],
    hedge: Hedge,
    latency: tuple[float, float] | None,
    mirrors: int,
    attempts: list[list[float]],
) -> None:
    slow = [Mirror(NEVER_ENDS) for _ in range(mirrors)]
    live = a_latency(*latency) if latency else Latency()
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(*slow, hedge=hedge, latency=live, budget=budget, events=events)
    assert isinstance(await result_leaving_nothing(fetch(call), 9.5), asyncio.CancelledError)
    assert attempts_of(*slow) == attempts
    at_first = mirrors if hedge == 0 else 1
    hedges = sum(map(len, attempts)) - at_first
    assert (call.tally.hedges, 10 - budget.balance) == (hedges, hedges)
    assert events == [Hedging(call)] * hedges
    assert [mirror.closed for mirror in slow] == [len(began) for began in attempts]


async def test_race_begins_with_each_mirror_round_robin() -> None:
    mirrors = [Mirror((0.0, None)) for _ in range(3)]
    fetch = racing(*mirrors)
    assert [await fetch(a_call()) for _ in range(4)] == [mirrors[n % 3].answer for n in range(4)]


@pytest.mark.parametrize("hedge", [1.0, "auto"])
async def test_race_begins_the_retry_of_a_call_with_the_next_mirror_round_robin(
    hedge: Hedge,
) -> None:
    fetch = racing(*(Mirror((0.0, REFUSED)) for _ in range(3)), hedge=hedge)
    call, order = a_call(), []
    for _ in range(4):
        assert await result_or_error(fetch(call)) is REFUSED
        order.append(call.tally.mirror)
        await result_or_error(fetch(a_call()))  # other calls do not change the order of this one
    assert order == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("seconds", "winner", "end"),
    [((3.0, 0.5), 1, 1.5), ((1.25, 5.0), 0, 1.25), ((0.5, 0.5), 0, 0.5)],
)
async def test_race_is_won_by_the_first_good_answer(
    seconds: tuple[float, float], winner: int, end: float
) -> None:
    mirrors = [Mirror((each, None)) for each in seconds]
    assert await result_leaving_nothing(racing(*mirrors)(a_call())) is mirrors[winner].answer
    assert now() == end


async def test_hedge_asks_a_single_late_mirror_again_and_the_first_answer_wins() -> None:
    mirror = Mirror((60.0, None), (0.5, None))
    assert await result_leaving_nothing(racing(mirror)(a_call())) is mirror.answer
    assert (mirror.began, now(), mirror.closed) == ([0.0, 1.0], 1.5, 1)


@pytest.mark.parametrize("failure", [BROKEN, UpstreamStatus(503), InvalidPayload("garbage")])
async def test_hedge_goes_out_at_once_when_a_mirror_has_failed(
    events: list[Event], failure: Failure
) -> None:
    broken, good = Mirror((0.25, failure)), Mirror((0.25, None))
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(broken, good, budget=budget, events=events)
    assert await result_leaving_nothing(fetch(call)) is good.answer
    assert attempts_of(broken, good) == [[0.0], [0.25]]
    assert (budget.balance, events, call.tally.hedges) == (9.0, [Hedging(call)], 1)


@pytest.mark.parametrize("failure", [REFUSED, Overloaded("no capacity of ours")])
async def test_hedge_does_not_go_out_after_a_failure_that_no_other_mirror_would_avoid(
    failure: Failure,
) -> None:
    other = Mirror((0.0, None))
    fetch = racing(Mirror((0.25, failure)), other)
    assert await result_leaving_nothing(fetch(a_call())) is failure
    assert other.began == []


async def test_race_waits_for_a_hedge_in_flight_after_a_failure_that_is_not_retried() -> None:
    refusing, slow, other = Mirror((1.25, REFUSED)), Mirror((1.0, None)), Mirror((0.0, None))
    assert await result_leaving_nothing(racing(refusing, slow, other)(a_call())) is slow.answer
    assert (now(), other.began) == (2.0, [])


@pytest.mark.parametrize("hedge", [1.0, "auto"])
async def test_hedge_does_not_go_out_when_a_single_mirror_has_failed(
    hedge: Hedge,
) -> None:
    mirror = Mirror((0.5, BROKEN), (0.0, None))
    assert await result_leaving_nothing(racing(mirror, hedge=hedge)(a_call())) is BROKEN
    assert mirror.began == [0.0]


async def test_hedge_of_a_single_mirror_is_not_repeated_when_it_fails() -> None:
    mirror = Mirror((1.75, None), (0.5, BROKEN))
    assert await result_leaving_nothing(racing(mirror)(a_call())) is mirror.answer
    assert mirror.began == [0.0, 1.0]


async def test_race_raises_the_last_failure_when_all_mirrors_fail() -> None:
    last = UpstreamStatus(503)
    mirrors = Mirror((0.25, BROKEN)), Mirror((0.25, last)), an_open_circuit()
    assert await result_leaving_nothing(racing(*mirrors)(a_call())) is last
    assert attempts_of(*mirrors) == [[0.0], [0.25], [0.5]]


@pytest.mark.parametrize("hedge", [0.0, 0.5])
async def test_race_ends_at_once_with_not_found(hedge: float) -> None:
    absent, slow = Mirror((1.0, ABSENT)), Mirror((5.0, None))
    fetch = racing(absent, slow, hedge=hedge)
    assert await result_leaving_nothing(fetch(a_call())) is ABSENT
    assert (now(), slow.closed) == (1.0, 1)


async def test_race_passes_over_open_circuit_breakers_without_time_or_budget(
    events: list[Event],
) -> None:
    good, call = Mirror((0.5, None)), a_call()
    fetch = racing(an_open_circuit(), an_open_circuit(), good, budget=a_budget_of(0), events=events)
    assert await result_leaving_nothing(fetch(call)) is good.answer
    assert (good.began, events, call.tally.hedges) == ([0.0], [], 0)


async def test_hedge_that_meets_an_open_circuit_breaker_goes_on_without_more_budget() -> None:
    slow, refusing, good = Mirror((5.0, None)), an_open_circuit(), Mirror((0.5, None))
    call, budget = a_call(), a_budget_of(6)
    fetch = racing(slow, refusing, good, budget=budget)
    assert await result_leaving_nothing(fetch(call)) is good.answer
    assert (attempts_of(slow, refusing, good), budget.balance) == ([[0.0], [1.0], [1.0]], 5.0)


@pytest.mark.parametrize("hedge", [0.0, 1.0, "auto"])
async def test_race_over_open_circuit_breakers_raises_the_soonest_retry_after(hedge: Hedge) -> None:
    mirrors = [an_open_circuit(0.75), an_open_circuit(0.25), an_open_circuit(0.5)]
    fetch = racing(*mirrors, hedge=hedge, budget=a_budget_of(0))
    refusal = await result_leaving_nothing(fetch(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now()) == (0.25, 0.0)
    assert attempts_of(*mirrors) == [[0.0]] * 3


# What stops a hedge


@pytest.mark.parametrize("first", [(2.0, None), (0.5, BROKEN)])
async def test_hedge_without_budget_does_not_go_out_and_budget_spent_is_emitted_once(
    events: list[Event], first: tuple[float, Exception | None]
) -> None:
    mirror, other, call, budget = Mirror(first), Mirror((0.0, None)), a_call(), a_budget_of(0.5)
    fetch = racing(mirror, other, budget=budget, events=events)
    result = await result_leaving_nothing(fetch(call))
    assert result is (first[1] or mirror.answer)
    assert (now(), other.began) == (first[0], [])
    assert (events, budget.balance, call.tally.hedges) == ([BudgetSpent(call)], 0.5, 0)


@pytest.mark.parametrize(("first", "asked"), [((2.0, None), []), ((0.5, BROKEN), [0.5])])
async def test_hedge_of_a_late_attempt_leaves_half_of_the_budget_to_those_in_place_of_a_failure(
    first: tuple[float, Exception | None], asked: list[float]
) -> None:
    other = Mirror((0.0, None))
    await racing(Mirror(first), other, budget=a_budget_of(5))(a_call())
    assert other.began == asked


async def test_race_with_a_hedge_delay_of_zero_needs_no_budget(events: list[Event]) -> None:
    mirrors = [Mirror((3.0, None)), Mirror((2.0, None)), Mirror((1.0, None))]
    fetch = racing(*mirrors, hedge=0.0, budget=a_budget_of(0), events=events)
    assert await result_leaving_nothing(fetch(a_call())) is mirrors[2].answer
    assert (attempts_of(*mirrors), now(), events) == ([[0.0]] * 3, 1.0, [])


@pytest.mark.parametrize("first", [(2.0, None), (1.0, BROKEN)], ids=["late", "failed"])
@pytest.mark.parametrize(("deadline", "hedged"), [(1.25, False), (1.5, False), (1.75, True)])
async def test_hedge_that_cannot_end_before_the_deadline_does_not_go_out(
    events: list[Event], first: tuple[float, Exception | None], deadline: float, hedged: bool
) -> None:
    mirror, other = Mirror(first), Mirror((0.5, None))
    fetch = racing(mirror, other, latency=a_latency(0.5), events=events)
    await result_or_error(fetch(a_call(a_context(deadline))))
    assert other.began == ([1.0] if hedged else [])
    assert [type(event) for event in events] == ([Hedging] if hedged else [])


async def test_hedges_stop_when_the_latency_shows_that_all_attempts_are_slow() -> None:
    """The budget is infinite, so only the latency can stop them."""
    latency, upstream = a_latency(0.1, 0.2), FakeUpstream(seconds=1.0)

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


async def test_hedges_make_every_call_quick_where_one_attempt_in_twenty_is_slow() -> None:
    mirror = Mirror(*[(10.0 if n % 20 == 7 else 0.1, None) for n in range(400)])
    latency = a_latency(0.1, 10.0)
    fetch = racing(mirror, hedge="auto", latency=latency, budget=a_budget_of(inf))
    seconds = []
    for _ in range(300):
        began = now()
        await result_leaving_nothing(fetch(a_call(a_context(inf))))
        seconds.append(now() - began)
    assert max(seconds) == pytest.approx(0.5)  # four medians until the hedge, and one for it
    assert len(mirror.began) <= 300 * 1.06


@pytest.mark.parametrize("first", [(2.0, None), (0.5, BROKEN)], ids=["late", "failed"])
async def test_hedge_does_not_go_out_for_a_key_that_only_fails(
    events: list[Event], first: tuple[float, Exception | None]
) -> None:
    other, call = Mirror((0.0, None)), a_call()
    failures = failed(KeyFailures(), call, 6)
    fetch = racing(Mirror(first), other, failures=failures, budget=a_budget_of(0), events=events)
    await result_leaving_nothing(fetch(call))
    assert (other.began, events) == ([], [])  # nor does it ask the budget


async def test_race_begins_with_a_mirror_that_did_not_say_retry_after() -> None:
    busy = UpstreamStatus(503, retry_after=5.0)
    mirrors = Mirror((0.0, busy), (0.0, None)), Mirror((0.0, None))
    fetch = racing(*mirrors)
    for _ in range(4):
        assert await result_leaving_nothing(fetch(a_call())) is mirrors[1].answer
    assert attempts_of(*mirrors) == [[0.0], [0.0] * 4]
    await asyncio.sleep(5)
    assert await result_leaving_nothing(fetch(a_call())) is mirrors[0].answer
