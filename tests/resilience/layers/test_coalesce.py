import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Admission, Answer, Call, Event, Fetch, Key
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
    a_context,
    a_question,
    a_shed_context,
    an_answer,
    leaving_nothing,
    now,
    on_virtual_time,
    result_or_error,
)

pytestmark = pytest.mark.anyio

AUTHORISED = ((b"authorization", b"one"),)


class Punctual:
    """Takes `seconds`, but ends at the call's deadline with `late`, as the layers below do."""

    def __init__(self, seconds: float = 1.0, late: Failure | None = None) -> None:
        self.seconds = seconds
        self.late = late or Timeout("late")
        self.calls: list[Call] = []
        self.began: list[float] = []

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        self.began.append(now())
        left = call.context.deadline - now()
        await asyncio.sleep(min(self.seconds, left))
        if self.seconds >= left:
            raise self.late
        return an_answer(b"%d" % len(self.began))


class Reluctant(FakeUpstream):
    """Takes another second to end when it is cancelled, and then ends as events."""

    async def __call__(self, call: Call) -> Answer:
        try:
            return await super().__call__(call)
        except asyncio.CancelledError:
            self.in_flight += 1
            await asyncio.sleep(1)
            self.in_flight -= 1
            if self.ending is not None:
                raise self.ending from None
            raise


def a_layer(
    upstream: Fetch, events: list[Event] | None = None, latency: Latency | None = None
) -> Fetch:
    return coalesce(latency or Latency(), ([] if events is None else events).append)(upstream)


def that_takes(seconds: float) -> Latency:
    latency = Latency()
    for _ in range(20):
        latency.add(seconds)
    return latency


def until(deadline: float, headers: Sequence[tuple[bytes, bytes]] = ()) -> Call:
    return a_call(replace(a_context(deadline), headers=tuple(headers)))


async def asked(fetch: Fetch, call: Call) -> Answer:
    return await fetch(call)


async def boarded(fetch: Fetch, *calls: Call) -> list[asyncio.Task[Answer]]:
    """All of them on their way, in this order."""
    tasks = [asyncio.create_task(asked(fetch, call)) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_equal_calls_in_flight_share_one() -> None:
    upstream, events = FakeUpstream(seconds=1), list[Event]()
    calls = [a_call() for _ in range(5)]
    async with leaving_nothing():
        answers = await asyncio.gather(*map(a_layer(upstream, events), calls))
    assert upstream.began == [0.0]
    assert all(answer is answers[0] for answer in answers)
    assert [call.tally.coalesced for call in calls] == [False, True, True, True, True]
    assert events == [Coalesced(call, 1.0, None) for call in calls[1:]]


async def test_nobody_boards_what_has_landed() -> None:
    upstream, events = FakeUpstream(seconds=1), list[Event]()
    fetch = a_layer(upstream, events)
    for _ in range(2):
        await fetch(a_call())
    assert (upstream.began, events) == ([0.0, 1.0], [])


async def test_only_equal_calls_share() -> None:
    upstream, another = FakeUpstream(seconds=1), replace(a_question(), target="/posts/2")
    different = [
        a_call(),
        until(10, AUTHORISED),
        until(10, [(b"authorization", b"another")]),
        until(10, [(b"accept-language", b"one")]),
        until(10, AUTHORISED * 2),
        a_call(upstream="users"),
        Call(another, a_context()),
    ]
    fetch = a_layer(upstream)
    await asyncio.gather(*map(fetch, different), *(fetch(replace(call)) for call in different))
    assert len(upstream.began) == len(different)


@pytest.mark.parametrize(
    "other",
    [
        {"deadline": 5.0},
        {"fan_out": asyncio.Semaphore(0)},
        {"request_id": "another"},
        {"trace": ((b"traceparent", b"another"),)},
        {"no_cache": True},
        {"admission": Admission(decided=True, overload_wait=3.0)},
    ],
)
async def test_what_does_not_change_the_answer_does_not_part_calls(other: dict[str, float]) -> None:
    upstream = FakeUpstream(seconds=1)
    fetch, context = a_layer(upstream), replace(a_context(), **other)  # type: ignore[arg-type]
    await asyncio.gather(fetch(a_call()), fetch(a_call(context)))
    assert len(upstream.began) == 1


@pytest.mark.parametrize("order", [*permutations(range(3))])
async def test_a_flight_lives_until_its_last_passenger_leaves_whoever_came_first(
    order: Sequence[int],
) -> None:
    upstream = Reluctant(seconds=60)
    async with leaving_nothing():
        tasks = await boarded(a_layer(upstream), *(a_call() for _ in range(3)))
        for number in order[:2]:
            await asyncio.sleep(1)
            tasks[number].cancel()
            await result_or_error(tasks[number])
            assert tasks[number].cancelled()
            assert (upstream.in_flight, upstream.cancelled) == (1, 0)
        assert now() == 2.0
        tasks[order[2]].cancel()
        await result_or_error(tasks[order[2]])
        assert tasks[order[2]].cancelled()
        assert (upstream.in_flight, upstream.cancelled) == (0, 1)
        assert now() == 3.0  # awaited, though it takes its time


async def test_who_stays_gets_the_answer_when_the_first_leaves() -> None:
    upstream = FakeUpstream(seconds=2)
    first, second = await boarded(a_layer(upstream), a_call(), a_call())
    await asyncio.sleep(1)
    first.cancel()
    assert (await second).data.json == b"[]"
    assert (now(), len(upstream.began), upstream.cancelled) == (2.0, 1, 0)


async def test_nobody_boards_a_flight_that_is_being_cancelled() -> None:
    upstream = Reluctant(seconds=2)
    fetch = a_layer(upstream)
    async with leaving_nothing():
        (last,) = await boarded(fetch, a_call())
        await asyncio.sleep(1)
        last.cancel()
        await asyncio.sleep(0.5)
        newcomer = a_call()
        assert (await fetch(newcomer)).data.json == b"[]"
        assert (upstream.began, now()) == ([0.0, 1.5], 3.5)
        assert not newcomer.tally.coalesced
        await result_or_error(last)


async def test_the_end_of_an_old_flight_does_not_end_the_sharing_of_a_new_one() -> None:
    upstream = Reluctant(seconds=2)
    fetch = a_layer(upstream)
    (last,) = await boarded(fetch, a_call())
    await asyncio.sleep(1)
    last.cancel()
    await boarded(fetch, a_call())
    await asyncio.sleep(1.5)
    assert last.cancelled()
    await fetch(a_call())
    assert upstream.began == [0.0, 1.0]


async def test_a_passenger_leaves_at_its_own_deadline() -> None:
    upstream = FakeUpstream(seconds=5)
    fetch = a_layer(upstream)
    async with leaving_nothing():
        (first,) = await boarded(fetch, until(10))
        with pytest.raises(Timeout, match="no answer before the deadline"):
            await fetch(until(2))
        assert now() == 2.0
        await first
        assert (now(), upstream.cancelled) == (5.0, 0)


async def test_the_last_one_takes_the_flight_down_at_its_deadline() -> None:
    upstream = FakeUpstream(seconds=60)
    fetch = a_layer(upstream)
    async with leaving_nothing():
        first, second = await boarded(fetch, until(10), until(2))
        await asyncio.sleep(1)
        first.cancel()
        assert isinstance(await result_or_error(second), Timeout)
    assert (now(), upstream.in_flight, upstream.cancelled) == (2.0, 0, 1)


@pytest.mark.parametrize("late", [Timeout("late"), Overloaded("late")])
async def test_who_has_time_left_boards_again_when_the_firsts_time_was_up(late: Failure) -> None:
    upstream, events = Punctual(3, late), list[Event]()
    calls = [until(1), until(5), until(1), until(5), until(2)]
    async with leaving_nothing():
        ends = await asyncio.gather(*map(result_or_error, map(a_layer(upstream, events), calls)))
    assert ends[0] is ends[2] is late
    assert isinstance(ends[1], Answer)
    assert ends[1] is ends[3]
    assert isinstance(ends[4], Timeout)  # at its own deadline, in the second flight
    assert (upstream.began, now()) == ([0.0, 1.0], 4.0)
    assert upstream.calls[1] is calls[1]
    assert [event for event in events if isinstance(event, Coalesced)] == [
        *(Coalesced(calls[number], 1.0, late) for number in (1, 2, 3, 4)),
        Coalesced(calls[4], 1.0, ends[4]),
        Coalesced(calls[3], 3.0, None),
    ]


@pytest.mark.parametrize(
    ("usual", "ended", "deadline", "again"),
    [
        (None, 0.9, 5, False),
        (None, 0.996, 5, True),  # a timer may go off a little early
        (None, 0.996, 1.0005, False),
        (0.2, 0.9, 5, True),  # nothing could be ready in what the first has left
        (0.2, 0.9, 1.05, False),  # nor in what the passenger has
        (0.05, 0.9, 5, False),
    ],
)
async def test_it_was_the_firsts_time_if_an_answer_would_not_have_fitted_in_what_was_left(
    usual: float | None, ended: float, deadline: float, again: bool
) -> None:
    failure = Timeout("early")
    upstream = FakeUpstream(ended, failure)
    fetch = a_layer(upstream, latency=None if usual is None else that_takes(usual))
    ends = await asyncio.gather(
        result_or_error(fetch(until(1))), result_or_error(fetch(until(deadline)))
    )
    assert [*ends] == [failure, failure]
    assert len(upstream.began) == 1 + again


@pytest.mark.parametrize(("deadline", "again"), [(1.0, False), (1.1, True)])
async def test_who_has_more_time_than_the_first_may_find_a_permit_where_it_did_not(
    deadline: float, again: bool
) -> None:
    upstream = FakeUpstream(0, Overloaded("full"))
    fetch = a_layer(upstream)
    ends = await asyncio.gather(
        result_or_error(fetch(until(1.0))), result_or_error(fetch(until(deadline)))
    )
    assert [type(end) for end in ends] == [Overloaded, Overloaded]
    assert len(upstream.began) == 1 + again


@pytest.mark.parametrize("first_is_congested", [True, False])
async def test_who_was_let_in_does_not_share_the_fate_of_who_was_not(
    first_is_congested: bool,
) -> None:
    upstream = FakeUpstream()
    fetch = coalesce(Latency(), list[Event]().append)(shed(list[Event]().append)(upstream))
    calls = [
        a_call(a_shed_context(1.0)),
        a_call(),
    ]
    if not first_is_congested:
        calls.reverse()
    ends = await asyncio.gather(*(result_or_error(fetch(one)) for one in calls))
    assert [type(end) for end in ends] == [Overloaded if first_is_congested else Answer, Answer]
    assert len(upstream.began) == 1


async def test_a_timeout_error_that_is_no_deadline_of_ours_is_a_bug() -> None:
    fetch = a_layer(FakeUpstream(0, TimeoutError()))
    ends = await asyncio.gather(*(result_or_error(fetch(until(one))) for one in (2, 1, 3)))
    assert [type(end) for end in ends] == [TimeoutError] * 3


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
async def test_a_failure_of_the_upstream_is_everybodys_however_late(failure: Failure) -> None:
    upstream = FakeUpstream(1, failure)
    fetch = a_layer(upstream)
    ends = await asyncio.gather(
        result_or_error(fetch(until(1.001))), result_or_error(fetch(until(9)))
    )
    assert [*ends] == [failure, failure]
    assert len(upstream.began) == 1


async def test_a_bug_reaches_everybody() -> None:
    bug = ZeroDivisionError()
    fetch = a_layer(FakeUpstream(1, bug))
    async with leaving_nothing():
        ends = await asyncio.gather(*(result_or_error(fetch(until(n))) for n in (5, 9, 4)))
    assert [*ends] == [bug, bug, bug]


async def test_a_bug_that_cancelling_brings_up_is_not_hidden() -> None:
    bug = ZeroDivisionError()
    async with leaving_nothing():
        (task,) = await boarded(a_layer(Reluctant(60, bug)), a_call())
        await asyncio.sleep(1)
        task.cancel()
        assert await result_or_error(task) is bug


@pytest.mark.parametrize("leave", [True, False])
async def test_a_failure_that_cancelling_brings_up_is_nobodys(leave: bool) -> None:
    fetch = a_layer(Reluctant(60, Unreachable("broken")))
    async with leaving_nothing():
        first, last = await boarded(fetch, until(10), until(3))
        await asyncio.sleep(1)
        first.cancel()
        if leave:
            last.cancel()
        end = await result_or_error(last)
    assert isinstance(end, asyncio.CancelledError if leave else Timeout)


async def test_who_is_cancelled_twice_awaits_the_end_all_the_same() -> None:
    upstream = Reluctant(60, Unreachable("broken"))
    async with leaving_nothing():
        (task,) = await boarded(a_layer(upstream), a_call())
        for _ in range(2):
            await asyncio.sleep(0.6)
            task.cancel()
        assert isinstance(await result_or_error(task), asyncio.CancelledError)
    assert upstream.in_flight == 0
    assert now() == pytest.approx(1.6)


def costing(attempts: int, retries: int, hedges: int, upstream: Fetch) -> Fetch:
    """As `upstream`, for so much each time."""

    async def costly(call: Call) -> Answer:
        call.tally.attempts += attempts
        call.tally.retries += retries
        call.tally.hedges += hedges
        call.tally.validated = True
        return await upstream(call)

    return costly


def cost(call: Call) -> tuple[int, int, int]:
    return call.tally.attempts, call.tally.retries, call.tally.hedges


async def test_passengers_are_told_of_the_whole_flight_whenever_they_board() -> None:
    fetch = a_layer(costing(3, 2, 1, FakeUpstream(seconds=2)))
    first, early, late = a_call(), a_call(), a_call()
    await boarded(fetch, first, early)
    await asyncio.sleep(1)
    await fetch(late)
    assert [cost(call) for call in (first, early, late)] == [(3, 2, 1)] * 3
    assert first.tally.validated
    assert late.tally.validated


async def test_who_leaves_is_told_of_the_flight_so_far() -> None:
    fetch, call = a_layer(costing(3, 2, 1, FakeUpstream(seconds=60))), until(1)
    await boarded(fetch, until(10))
    await result_or_error(fetch(call))
    assert cost(call) == (3, 2, 1)


async def test_who_boards_again_is_told_of_each_flight_once() -> None:
    calls = [until(deadline) for deadline in (1, 2, 9, 9)]
    fetch = a_layer(costing(3, 2, 1, Punctual(3)))
    await asyncio.gather(*map(result_or_error, map(fetch, calls)))
    assert now() == 5.0
    assert [cost(call) for call in calls] == [(3, 2, 1), (6, 4, 2), (9, 6, 3), (9, 6, 3)]


@dataclass(frozen=True)
class Traveller:
    """Times in hundredths: arrivals at .00, departures at .25, deadlines at .75, and flights that
    take .37 more than whole seconds: no two things happen at once whose order is anybody's guess.
    """

    arrives: int
    leaves: int | None
    deadline: int
    ticket: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((b"ticket", b"%d" % self.ticket),)


@st.composite
def travellers(draw: st.DrawFn) -> list[Traveller]:
    people = []
    for second in draw(st.lists(st.integers(0, 12), unique=True, max_size=8)):
        arrives = second * 100
        leaves = draw(st.none() | st.integers(0, 6))
        people.append(
            Traveller(
                arrives,
                None if leaves is None else arrives + leaves * 100 + 25,
                arrives + draw(st.integers(0, 8)) * 100 + 75,
                draw(st.integers(0, 1)),
            )
        )
    return people


Ends = dict[Traveller, tuple[str, int]]


def expected(people: Sequence[Traveller], seconds: Sequence[int]) -> Ends:
    """How it ends for each of `people` on one ticket, events hundredth by hundredth."""
    ends: Ends = {}
    aboard: list[Traveller] = []
    flights = lands = until = 0

    def board(traveller: Traveller) -> None:
        nonlocal flights, lands, until
        if not aboard:
            lands = time + seconds[flights % len(seconds)] * 100 + 37
            until = traveller.deadline
            flights += 1
        aboard.append(traveller)

    for time in range(3000):
        if aboard and time == lands:
            ends |= dict.fromkeys(aboard, (f"answer {flights}", time))
            aboard.clear()
        stranded = []
        for traveller in list(aboard):
            if time in (traveller.leaves, traveller.deadline):
                ends[traveller] = ("left" if time == traveller.leaves else "late", time)
                aboard.remove(traveller)
        if time == until:
            stranded = list(aboard)
            aboard.clear()
        for traveller in stranded + [one for one in people if one.arrives == time]:
            board(traveller)
    return ends


@given(travellers(), st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_whoever_comes_and_goes_everybody_gets_what_is_due_when_it_is_due(
    people: list[Traveller], seconds: list[int]
) -> None:
    ends: Ends = {}
    in_flight, flights = Counter[Key](), Counter[Key]()

    async def upstream(call: Call) -> Answer:
        key = call.key
        in_flight[key] += 1
        flights[key] += 1
        assert in_flight[key] == 1
        json, deadline = b"%s %d" % (key[2][0][1], flights[key]), call.context.deadline
        end = now() + seconds[(flights[key] - 1) % len(seconds)] + 0.37
        try:
            await asyncio.sleep(min(end, deadline) - now())
        finally:
            in_flight[key] -= 1
        if end > deadline:
            raise Timeout("late")
        return an_answer(json)

    async def main() -> None:
        fetch = a_layer(upstream)

        async def travel(one: Traveller) -> None:
            await asyncio.sleep(one.arrives / 100)
            trip = asyncio.ensure_future(fetch(until(one.deadline / 100, one.headers)))
            left = inf if one.leaves is None else one.leaves / 100 - now()
            await asyncio.wait([trip], timeout=min(left, 100))
            trip.cancel()
            end = await result_or_error(trip)
            match end:
                case Answer(data=data):
                    ticket, number = data.json.split()
                    assert int(ticket) == one.ticket
                    events = f"answer {int(number)}"
                case asyncio.CancelledError():
                    events = "left"
                case _:
                    assert isinstance(end, Timeout)
                    events = "late"
            ends[one] = (events, round(now() * 100))

        async with leaving_nothing():
            await asyncio.gather(*map(travel, people))
        assert in_flight.total() == 0

    on_virtual_time(main)
    assert ends == {
        traveller: end
        for ticket in (0, 1)
        for traveller, end in expected(
            [one for one in people if one.ticket == ticket], seconds
        ).items()
    }
