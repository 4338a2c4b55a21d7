import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from app.call import Admission, Answer, Call, Data, Event, Fetch
from app.errors import Timeout, Unreachable
from app.resilience.events import Coalesced
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    a_question,
    leaving_nothing,
    now,
    result_or_error,
)
from tests.resilience.layers.flights import EndsAtDeadline, a_call_until, coalesced, in_flight

pytestmark = pytest.mark.anyio

AUTHORISED = ((b"authorization", b"one"),)


class SlowToCancel(FakeUpstream):
    """Takes another second to end when it is cancelled, and then raises `error`, if any."""

    async def __call__(self, call: Call) -> Answer:
        try:
            return await super().__call__(call)
        except asyncio.CancelledError:
            self.in_flight += 1
            await asyncio.sleep(1)
            self.in_flight -= 1
            if self.error is not None:
                raise self.error from None
            raise


async def test_coalesce_lets_equal_calls_in_flight_share_one(events: list[Event]) -> None:
    upstream = FakeUpstream(seconds=1)
    calls = [a_call() for _ in range(5)]
    async with leaving_nothing():
        answers = await asyncio.gather(*map(coalesced(upstream, events), calls))
    assert upstream.began == [0.0]
    assert all(answer is answers[0] for answer in answers)
    assert [call.tally.coalesced for call in calls] == [False, True, True, True, True]
    assert events == [Coalesced(call, 1.0, None) for call in calls[1:]]


async def test_coalesce_starts_a_new_flight_after_the_last_has_ended(events: list[Event]) -> None:
    upstream = FakeUpstream(seconds=1)
    fetch = coalesced(upstream, events)
    for _ in range(2):
        await fetch(a_call())
    assert (upstream.began, events) == ([0.0, 1.0], [])


async def test_coalesce_shares_only_between_equal_calls() -> None:
    upstream, another = FakeUpstream(seconds=1), replace(a_question(), target="/posts/2")
    decoded_otherwise = replace(a_question(), decode=lambda _: Data(b"[]"))
    different = [
        a_call(),
        a_call_until(10, AUTHORISED),
        a_call_until(10, [(b"authorization", b"another")]),
        a_call_until(10, [(b"accept-language", b"one")]),
        a_call_until(10, AUTHORISED * 2),
        a_call(upstream="users"),
        Call(another, a_context()),
        Call(decoded_otherwise, a_context()),
    ]
    fetch = coalesced(upstream)
    await asyncio.gather(*map(fetch, different), *(fetch(replace(call)) for call in different))
    assert len(upstream.began) == len(different)


@pytest.mark.parametrize(
    "other",
    [
        {"deadline": 5.0},
        {"fan_out": asyncio.Semaphore(0)},
        {"request_id": "another"},
        {"trace": ((b"traceparent", b"another"),)},
        {"no_cache": True},  # it has arrived before the flight began
        {"no_store": True},
        {"admission": Admission(decided=True, overload_wait=3.0)},
    ],
)
async def test_coalesce_shares_between_calls_whose_difference_cannot_change_the_answer(
    other: dict[str, float],
) -> None:
    upstream = FakeUpstream(seconds=1)
    fetch, context = coalesced(upstream), replace(a_context(), **other)  # type: ignore[arg-type]
    await asyncio.gather(fetch(a_call()), fetch(a_call(context)))
    assert len(upstream.began) == 1


@pytest.mark.parametrize(("arrived", "joins"), [(0.999, True), (1.0, True), (1.001, False)])
async def test_coalesce_lets_a_no_cache_call_join_only_what_began_after_it_arrived(
    arrived: float, joins: bool
) -> None:
    """What was asked before may not know what the client has written since."""
    upstream = FakeUpstream(seconds=5)
    fetch = coalesced(upstream)
    await asyncio.sleep(1)
    await in_flight(fetch, a_call())
    await asyncio.sleep(1)
    fresh = a_call_until(10, arrived=arrived, no_cache=True)
    await fetch(fresh)
    assert fresh.tally.coalesced is joins
    assert upstream.began == ([1.0] if joins else [1.0, 2.0])


async def test_coalesce_lets_other_calls_join_the_newer_flight_and_both_end_on_their_own() -> None:
    upstream = EndsAtDeadline(2)
    fetch = coalesced(upstream)
    async with leaving_nothing():
        (first,) = await in_flight(fetch, a_call_until(10))
        await asyncio.sleep(1)
        (second,) = await in_flight(fetch, a_call_until(10, arrived=1.0, no_cache=True))
        await asyncio.sleep(0.5)
        third, fourth = a_call_until(10), a_call_until(10, arrived=0.5, no_cache=True)
        joined = await in_flight(fetch, third, fourth)
        assert (await first).data.json == b"1"
        (late,) = await in_flight(fetch, a_call_until(10))  # the newer one is in flight still
        answers = await asyncio.gather(second, *joined, late)
    assert [answer.data.json for answer in answers] == [b"2"] * 4
    assert upstream.began == [0.0, 1.0]


@pytest.mark.parametrize("order", [*permutations(range(3))])
async def test_coalesced_flight_is_cancelled_with_its_last_waiter_whoever_came_first(
    order: Sequence[int],
) -> None:
    upstream = SlowToCancel(seconds=60)
    async with leaving_nothing():
        tasks = await in_flight(coalesced(upstream), *(a_call() for _ in range(3)))
        for index in order[:2]:
            await asyncio.sleep(1)
            tasks[index].cancel()
            await result_or_error(tasks[index])
            assert tasks[index].cancelled()
            assert (upstream.in_flight, upstream.cancelled) == (1, 0)
        assert now() == 2.0
        tasks[order[2]].cancel()
        await result_or_error(tasks[order[2]])
        assert tasks[order[2]].cancelled()
        assert (upstream.in_flight, upstream.cancelled) == (0, 1)
        assert now() == 3.0  # the last waiter awaits the end of the flight


async def test_coalesced_waiter_gets_the_answer_though_the_leader_has_left() -> None:
    upstream = FakeUpstream(seconds=2)
    leader, waiter = await in_flight(coalesced(upstream), a_call(), a_call())
    await asyncio.sleep(1)
    leader.cancel()
    assert (await waiter).data.json == b"[]"
    assert (now(), len(upstream.began), upstream.cancelled) == (2.0, 1, 0)


async def test_coalesce_lets_nobody_join_a_flight_that_is_being_cancelled() -> None:
    upstream = SlowToCancel(seconds=2)
    fetch = coalesced(upstream)
    async with leaving_nothing():
        (last,) = await in_flight(fetch, a_call())
        await asyncio.sleep(1)
        last.cancel()
        await asyncio.sleep(0.5)
        newcomer = a_call()
        assert (await fetch(newcomer)).data.json == b"[]"
        assert (upstream.began, now()) == ([0.0, 1.5], 3.5)
        assert not newcomer.tally.coalesced
        await result_or_error(last)


async def test_coalesced_flight_can_still_be_joined_after_an_older_one_has_ended() -> None:
    upstream = SlowToCancel(seconds=2)
    fetch = coalesced(upstream)
    (last,) = await in_flight(fetch, a_call())
    await asyncio.sleep(1)
    last.cancel()
    await in_flight(fetch, a_call())
    await asyncio.sleep(1.5)
    assert last.cancelled()
    await fetch(a_call())
    assert upstream.began == [0.0, 1.0]


async def test_coalesced_waiters_all_get_a_bug() -> None:
    bug = ZeroDivisionError()
    fetch = coalesced(FakeUpstream(1, bug))
    async with leaving_nothing():
        results = await asyncio.gather(
            *(result_or_error(fetch(a_call_until(deadline))) for deadline in (5, 9, 4))
        )
    assert [*results] == [bug, bug, bug]


async def test_coalesced_waiters_all_get_a_timeout_error_that_is_a_bug_and_no_deadline() -> None:
    fetch = coalesced(FakeUpstream(0, TimeoutError()))
    results = await asyncio.gather(
        *(result_or_error(fetch(a_call_until(deadline))) for deadline in (2, 1, 3))
    )
    assert [type(result) for result in results] == [TimeoutError] * 3


async def test_coalesce_raises_a_bug_that_cancelling_the_flight_brings_up() -> None:
    bug = ZeroDivisionError()
    async with leaving_nothing():
        (task,) = await in_flight(coalesced(SlowToCancel(60, bug)), a_call())
        await asyncio.sleep(1)
        task.cancel()
        assert await result_or_error(task) is bug


@pytest.mark.parametrize("cancelled", [True, False])
async def test_coalesce_drops_a_failure_that_cancelling_the_flight_brings_up(
    cancelled: bool,
) -> None:
    fetch = coalesced(SlowToCancel(60, Unreachable("broken")))
    async with leaving_nothing():
        leader, last = await in_flight(fetch, a_call_until(10), a_call_until(3))
        await asyncio.sleep(1)
        leader.cancel()
        if cancelled:
            last.cancel()
        result = await result_or_error(last)
    assert isinstance(result, asyncio.CancelledError if cancelled else Timeout)


async def test_coalesced_waiter_that_is_cancelled_twice_awaits_the_end_of_the_flight() -> None:
    upstream = SlowToCancel(60, Unreachable("broken"))
    async with leaving_nothing():
        (task,) = await in_flight(coalesced(upstream), a_call())
        for _ in range(2):
            await asyncio.sleep(0.6)
            task.cancel()
        assert isinstance(await result_or_error(task), asyncio.CancelledError)
    assert upstream.in_flight == 0
    assert now() == pytest.approx(1.6)


def costing(attempts: int, retries: int, hedges: int, upstream: Fetch) -> Fetch:
    """`upstream`, which also adds this to the tally of each call."""

    async def costly(call: Call) -> Answer:
        call.tally.attempts += attempts
        call.tally.retries += retries
        call.tally.hedges += hedges
        call.tally.validated = True
        return await upstream(call)

    return costly


def cost(call: Call) -> tuple[int, int, int]:
    return call.tally.attempts, call.tally.retries, call.tally.hedges


async def test_coalesced_waiters_have_the_tally_of_the_flight_whenever_they_join() -> None:
    fetch = coalesced(costing(3, 2, 1, FakeUpstream(seconds=2)))
    leader, early, late = a_call(), a_call(), a_call()
    await in_flight(fetch, leader, early)
    await asyncio.sleep(1)
    await fetch(late)
    assert [cost(call) for call in (leader, early, late)] == [(3, 2, 1)] * 3
    assert leader.tally.validated
    assert late.tally.validated


async def test_coalesced_waiter_that_leaves_has_the_tally_of_the_flight_so_far() -> None:
    fetch = coalesced(costing(3, 2, 1, FakeUpstream(seconds=60)))
    call = a_call_until(1)
    await in_flight(fetch, a_call_until(10))
    await result_or_error(fetch(call))
    assert cost(call) == (3, 2, 1)


async def test_coalesced_waiter_of_several_flights_has_the_tally_of_each_once() -> None:
    calls = [a_call_until(deadline) for deadline in (1, 2, 9, 9)]
    fetch = coalesced(costing(3, 2, 1, EndsAtDeadline(3)))
    await asyncio.gather(*map(result_or_error, map(fetch, calls)))
    assert now() == 5.0
    assert [cost(call) for call in calls] == [(3, 2, 1), (6, 4, 2), (9, 6, 3), (9, 6, 3)]
