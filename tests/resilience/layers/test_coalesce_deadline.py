import asyncio

import pytest

from app.call import Answer, Call, Event
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
from app.resilience.events import Coalesced
from app.resilience.latency import Latency
from app.resilience.layers.coalesce import coalesce
from app.resilience.layers.shed import shed
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_shed_context,
    an_answer,
    leaving_nothing,
    now,
    result_or_error,
)
from tests.resilience.layers.flights import EndsAtDeadline, a_call_until, coalesced, in_flight
from tests.resilience.states import a_latency

pytestmark = pytest.mark.anyio


async def test_coalesced_waiter_leaves_at_its_own_deadline() -> None:
    upstream = FakeUpstream(seconds=5)
    fetch = coalesced(upstream)
    async with leaving_nothing():
        (leader,) = await in_flight(fetch, a_call_until(10))
        with pytest.raises(Timeout, match="no answer before the deadline"):
            await fetch(a_call_until(2))
        assert now() == 2.0
        await leader
        assert (now(), upstream.cancelled) == (5.0, 0)


async def test_coalesced_flight_is_cancelled_at_the_deadline_of_its_last_waiter() -> None:
    upstream = FakeUpstream(seconds=60)
    fetch = coalesced(upstream)
    async with leaving_nothing():
        leader, last = await in_flight(fetch, a_call_until(10), a_call_until(2))
        await asyncio.sleep(1)
        leader.cancel()
        assert isinstance(await result_or_error(last), Timeout)
    assert (now(), upstream.in_flight, upstream.cancelled) == (2.0, 0, 1)


@pytest.mark.parametrize("late", [Timeout("late"), Overloaded("late")])
async def test_coalesced_waiters_with_time_left_join_another_flight_after_the_leaders_deadline(
    events: list[Event], late: Failure
) -> None:
    upstream = EndsAtDeadline(3, late)
    calls = [a_call_until(deadline) for deadline in (1, 5, 1, 5, 2)]
    async with leaving_nothing():
        results = await asyncio.gather(
            *map(result_or_error, map(coalesced(upstream, events), calls))
        )
    assert results[0] is results[2] is late
    assert isinstance(results[1], Answer)
    assert results[1] is results[3]
    assert isinstance(results[4], Timeout)  # at its own deadline, in the second flight
    assert (upstream.began, now()) == ([0.0, 1.0], 4.0)
    assert upstream.calls[1] is calls[1]
    assert [event for event in events if isinstance(event, Coalesced)] == [
        *(Coalesced(calls[number], 1.0, late) for number in (1, 2, 3, 4)),
        Coalesced(calls[4], 1.0, results[4]),
        Coalesced(calls[3], 3.0, None),
    ]


@pytest.mark.parametrize(
    ("p50", "ended", "deadline", "joins_another"),
    [
        (None, 0.9, 5, False),
        (None, 0.996, 5, True),  # a timer may go off a little early
        (None, 0.996, 1.0005, False),
        (0.2, 0.9, 5, True),  # no attempt would have fitted in what the leader had left
        (0.2, 0.9, 1.05, False),  # nor would one in what the waiter has left
        (0.05, 0.9, 5, False),
    ],
)
async def test_coalesced_timeout_is_the_leaders_alone_if_no_attempt_fitted_before_its_deadline(
    p50: float | None, ended: float, deadline: float, joins_another: bool
) -> None:
    failure = Timeout("early")
    upstream = FakeUpstream(ended, failure)
    fetch = coalesced(upstream, latency=None if p50 is None else a_latency(p50))
    results = await asyncio.gather(
        result_or_error(fetch(a_call_until(1))), result_or_error(fetch(a_call_until(deadline)))
    )
    assert [*results] == [failure, failure]
    assert len(upstream.began) == 1 + joins_another


@pytest.mark.parametrize(("deadline", "joins_another"), [(1.0, False), (1.1, True)])
async def test_coalesced_waiter_with_a_later_deadline_than_an_overloaded_leader_starts_over(
    deadline: float, joins_another: bool
) -> None:
    upstream = FakeUpstream(0, Overloaded("full"))
    fetch = coalesced(upstream)
    results = await asyncio.gather(
        result_or_error(fetch(a_call_until(1.0))), result_or_error(fetch(a_call_until(deadline)))
    )
    assert [type(result) for result in results] == [Overloaded, Overloaded]
    assert len(upstream.began) == 1 + joins_another


@pytest.mark.parametrize("leader_is_shed", [True, False])
async def test_coalesced_waiter_that_was_let_in_does_not_fail_with_a_leader_that_was_shed(
    leader_is_shed: bool,
) -> None:
    upstream = FakeUpstream()
    fetch = coalesce(Latency(), list[Event]().append)(shed(list[Event]().append)(upstream))
    calls = [a_call(a_shed_context(1.0)), a_call()]
    if not leader_is_shed:
        calls.reverse()
    results = await asyncio.gather(*(result_or_error(fetch(call)) for call in calls))
    expected = [Overloaded if leader_is_shed else Answer, Answer]
    assert [type(result) for result in results] == expected
    assert len(upstream.began) == 1


@pytest.mark.parametrize(
    "failure",
    [
        TooManyRequests("busy"),
        Unreachable("broken"),
        UpstreamStatus(500),
        InvalidPayload("garbage"),
        NotFound("none"),
        CircuitOpen("resting"),
    ],
)
async def test_coalesced_waiters_all_get_an_upstream_failure_even_near_the_leaders_deadline(
    failure: Failure,
) -> None:
    upstream = FakeUpstream(1, failure)
    fetch = coalesced(upstream)
    results = await asyncio.gather(
        result_or_error(fetch(a_call_until(1.001))), result_or_error(fetch(a_call_until(9)))
    )
    assert [*results] == [failure, failure]
    assert len(upstream.began) == 1


@pytest.mark.parametrize("out_of_time", [True, False])
@pytest.mark.parametrize("failure", [Unreachable("broken"), UpstreamStatus(503, retry_after=2.0)])
async def test_coalesced_waiter_with_more_time_goes_on_if_only_the_leader_had_none_for_a_retry(
    failure: Failure, out_of_time: bool
) -> None:
    calls: list[Call] = []

    async def upstream(call: Call) -> Answer:
        calls.append(call)
        await asyncio.sleep(0.5)
        if len(calls) > 1:
            return an_answer()
        call.tally.out_of_time = out_of_time
        raise failure

    fetch = coalesced(upstream)
    made = [a_call_until(deadline) for deadline in (1, 1, 9, 9)]
    async with leaving_nothing():
        results = await asyncio.gather(*(result_or_error(fetch(call)) for call in made))
    assert results[:2] == [failure, failure]
    assert len(calls) == 1 + out_of_time
    for result in results[2:]:
        assert isinstance(result, Answer) if out_of_time else result is failure


async def test_coalesced_waiter_of_a_leader_out_of_time_leads_the_next_flight_to_its_end() -> None:
    """It does not start over for ever."""
    upstream = FakeUpstream(0.1, Unreachable("broken"))

    async def out_of_time(call: Call) -> Answer:
        call.tally.out_of_time = True
        return await upstream(call)

    fetch = coalesced(out_of_time)
    made = [a_call_until(deadline) for deadline in (1, 2, 3, 3)]
    results = await asyncio.gather(*(result_or_error(fetch(call)) for call in made))
    assert {type(result) for result in results} == {Unreachable}
    assert upstream.began == pytest.approx([0.0, 0.1, 0.2])
