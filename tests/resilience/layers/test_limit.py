import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Context, Event, Fetch
from app.errors import NotFound, Overloaded, Unreachable
from app.resilience.bulkhead import Bulkhead
from app.resilience.events import Queued, Shed
from app.resilience.latency import Latency
from app.resilience.layers.limit import limit
from tests.clock import VirtualLoop
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    an_answer,
    leaving_nothing,
    now,
    on_virtual_time,
    result_or_error,
)

pytestmark = pytest.mark.anyio


def limited(bulkhead: Bulkhead, upstream: Fetch) -> Fetch:
    return limit(bulkhead, lambda _: None)(upstream)


def that_takes(seconds: float) -> Latency:
    latency = Latency()
    for _ in range(20):
        latency.add(seconds)
    return latency


async def test_one_upstream_never_has_more_than_its_capacity_in_flight() -> None:
    upstream, bulkhead = FakeUpstream(seconds=1), Bulkhead(3)
    await asyncio.gather(*(limited(bulkhead, upstream)(a_call()) for _ in range(20)))
    assert upstream.most == 3
    assert now() == 7.0  # 20 attempts, three at a time: nobody waits without need


async def test_one_request_never_has_more_than_its_fan_out_in_flight() -> None:
    upstream, context = FakeUpstream(seconds=1), a_context(fan_out=2)
    layers = [limited(Bulkhead(64), upstream) for _ in range(3)]
    await asyncio.gather(*(fetch(a_call(context)) for fetch in layers * 2))
    assert upstream.most == 2
    assert now() == 3.0


async def test_a_request_that_waits_for_its_fan_out_holds_no_permit_of_the_upstream() -> None:
    upstream, bulkhead, greedy = FakeUpstream(seconds=1), Bulkhead(2), a_context(fan_out=1)
    fetch = limited(bulkhead, upstream)
    waiting = [asyncio.ensure_future(fetch(a_call(greedy))) for _ in range(5)]
    await asyncio.sleep(0)
    await fetch(a_call())
    assert now() == 1.0  # beside the greedy request's first attempt, not behind its fifth
    await asyncio.gather(*waiting)


async def test_permits_are_given_in_the_order_of_asking() -> None:
    order: list[int] = []
    fetch = limited(Bulkhead(1), FakeUpstream(seconds=1))

    async def ask(number: int) -> None:
        await fetch(a_call())
        order.append(number)

    await asyncio.gather(*map(ask, range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_the_bulkhead_tells_how_many_are_in_flight_and_how_many_wait() -> None:
    bulkhead = Bulkhead(3)
    fetch = limited(bulkhead, FakeUpstream(seconds=1))
    assert bulkhead.free
    tasks = [asyncio.ensure_future(fetch(a_call())) for _ in range(5)]
    await asyncio.sleep(0.5)
    assert (bulkhead.in_flight, bulkhead.queued, bulkhead.limit.limit) == (3, 2, 3)
    assert not bulkhead.free
    await asyncio.gather(*tasks)
    assert (bulkhead.in_flight, bulkhead.queued, bulkhead.free) == (0, 0, True)


@pytest.mark.parametrize("error", [Unreachable("broken"), ZeroDivisionError()])
async def test_permits_come_back_when_the_attempt_goes_wrong(error: Exception) -> None:
    bulkhead, context = Bulkhead(1), a_context(fan_out=1)
    assert (
        await result_or_error(limited(bulkhead, FakeUpstream(1, error))(a_call(context))) is error
    )
    await limited(bulkhead, FakeUpstream())(a_call(context))
    assert now() == 1.0


@pytest.mark.parametrize(("capacity", "fan_out"), [(1, 10), (64, 1)])
async def test_who_has_no_permit_at_the_deadline_is_overloaded(capacity: int, fan_out: int) -> None:
    upstream, bulkhead, context = (
        FakeUpstream(seconds=60),
        Bulkhead(capacity),
        a_context(2, fan_out),
    )
    fetch = limited(bulkhead, upstream)
    holder = asyncio.ensure_future(fetch(a_call(context)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="no free capacity before the deadline"):
        await fetch(a_call(context))
    assert now() == 2.0
    assert (len(upstream.began), bulkhead.in_flight) == (1, 1)
    holder.cancel()
    await result_or_error(holder)
    assert bulkhead.in_flight == 0


async def test_who_comes_after_the_deadline_gets_no_permit_though_one_is_free() -> None:
    await asyncio.sleep(2)
    bulkhead, upstream, context = Bulkhead(1), FakeUpstream(), a_context(deadline=2.0)
    error = await result_or_error(limited(bulkhead, upstream)(a_call(context)))
    assert isinstance(error, Overloaded)
    assert (upstream.began, bulkhead.free, context.fan_out.locked()) == ([], True, False)


async def waiting(bulkhead: Bulkhead, *deadlines: float) -> list[asyncio.Task[None]]:
    """In the queue of `bulkhead`, in this order."""
    tasks = [asyncio.create_task(bulkhead.acquire(deadline)) for deadline in deadlines]
    await asyncio.sleep(0)
    return tasks


def taken(permits: int, latency: Latency | None = None) -> Bulkhead:
    """A bulkhead all of whose permits are taken."""
    bulkhead = Bulkhead(permits, latency)
    for _ in range(permits):
        bulkhead.try_acquire()
    return bulkhead


@pytest.mark.parametrize(
    ("permits", "queued", "wait"), [(1, 0, 0.5), (2, 0, 0.25), (2, 3, 1.0), (64, 0, 0.008)]
)
async def test_who_cannot_have_an_answer_in_time_is_turned_away_on_arrival(
    permits: int, queued: int, wait: float
) -> None:
    bulkhead, events = taken(permits, that_takes(0.5)), list[Event]()
    queue = await waiting(bulkhead, *[60.0] * queued)
    assert round(bulkhead.expected_wait(), 3) == wait
    hasty, patient = a_call(a_context(wait + 0.49)), a_call(a_context(wait + 0.51))
    fetch = limit(bulkhead, events.append)(FakeUpstream())
    with pytest.raises(Overloaded, match="no free capacity before the deadline") as turned_away:
        await fetch(hasty)
    assert (now(), turned_away.value.retry_after) == (0.0, wait)
    assert events == [Shed(hasty, turned_away.value)]
    assert not hasty.context.fan_out.locked()
    asking = asyncio.ensure_future(fetch(patient))
    await asyncio.sleep(0)
    assert bulkhead.queued == queued + 1
    for _ in range(queued + 1):
        bulkhead.release()
    await asyncio.gather(asking, *queue)
    assert events[1:] == [Queued(patient, 0.0)]


@pytest.mark.parametrize("latency", [Latency(), that_takes(0.5)])
async def test_nobody_is_turned_away_from_a_permit_that_is_free_or_for_what_is_not_known(
    latency: Latency,
) -> None:
    bulkhead = Bulkhead(1, latency)
    assert bulkhead.expected_wait() == 0.0
    assert not bulkhead.cannot_meet(deadline=0.1, now=now())
    await bulkhead.acquire(deadline=0.1)
    assert bulkhead.cannot_meet(deadline=0.1, now=now()) is (latency.p50 is not None)


async def test_a_permit_that_is_noticed_only_after_the_deadline_is_passed_on() -> None:
    bulkhead, upstream, call = taken(1), FakeUpstream(), a_call(a_context(2.0, fan_out=1))
    asking = asyncio.ensure_future(result_or_error(limited(bulkhead, upstream)(call)))
    await asyncio.sleep(1.9)
    bulkhead.release()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._jump.now += 0.2  # busy
    assert isinstance(await asking, Overloaded)
    assert (bulkhead.free, call.context.fan_out.locked(), upstream.began) == (True, False, [])


async def test_a_queue_has_an_end() -> None:
    bulkhead = taken(1)
    queue = await waiting(bulkhead, *[60.0] * 1001)
    assert (bulkhead.queued, queue[-1].done()) == (1000, True)
    assert isinstance(queue[-1].exception(), Overloaded)
    for _ in range(1001):
        bulkhead.release()
    await asyncio.gather(*queue[:-1])
    assert bulkhead.in_flight == 0


async def test_a_permit_is_not_wasted_on_who_has_no_time_left_to_use_it() -> None:
    bulkhead, upstream, events = taken(1, that_takes(0.5)), FakeUpstream(), list[Event]()
    fetch = limit(bulkhead, events.append)(upstream)
    calls = [a_call(a_context(deadline)) for deadline in (1.4, 60.0, 2.4, 60.0)]
    ends = [asyncio.ensure_future(result_or_error(fetch(call))) for call in calls]
    await asyncio.sleep(1)
    bulkhead.release()
    await asyncio.sleep(0)
    assert [type(await end) for end in ends] == [Overloaded, Answer, Answer, Answer]
    assert now() == 1.0  # not at the deadline
    assert upstream.began == [1.0, 1.0, 1.0]
    (shed,) = (event for event in events if isinstance(event, Shed))
    assert (shed.call, shed.seconds) == (calls[0], 1.0)
    assert events[1:] == [Queued(call, 1.0) for call in calls[1:]]
    assert not calls[0].context.fan_out.locked()
    assert (bulkhead.in_flight, bulkhead.free) == (0, True)


async def test_when_nobody_in_the_queue_has_time_left_the_permit_is_free() -> None:
    bulkhead = taken(1, that_takes(0.5))
    queue = await waiting(bulkhead, 1.4, 1.6)
    await asyncio.sleep(1.2)
    bulkhead.release()
    assert [type(await result_or_error(task)) for task in queue] == [Overloaded, Overloaded]
    assert bulkhead.free


@pytest.mark.parametrize("deadline", [60.0, 1.4])
@pytest.mark.parametrize("first", ["the turn", "the leaving"])
async def test_who_leaves_when_the_turn_comes_passes_it_on(deadline: float, first: str) -> None:
    bulkhead = taken(1, that_takes(0.5))
    async with leaving_nothing():
        leaver, following = await waiting(bulkhead, deadline, 60.0)
        await asyncio.sleep(1)
        if first == "the leaving":
            leaver.cancel()
        bulkhead.release()
        leaver.cancel()
        assert isinstance(await result_or_error(leaver), asyncio.CancelledError)
        await following
        assert bulkhead.in_flight == 1


async def test_who_leaves_the_queue_is_not_waited_for() -> None:
    bulkhead = taken(1)
    leaver, following = await waiting(bulkhead, 60.0, 60.0)
    leaver.cancel()
    await result_or_error(leaver)
    assert bulkhead.queued == 1
    bulkhead.release()
    await following


async def test_the_queue_follows_the_limit_up_and_down() -> None:
    bulkhead = taken(3)
    queue = await waiting(bulkhead, *[60.0] * 4)
    bulkhead.limit.limit = 1
    for in_flight in (2, 1):
        bulkhead.release()
        assert (bulkhead.in_flight, bulkhead.queued) == (in_flight, 4)
    bulkhead.limit.limit = 3
    assert not bulkhead.free  # nobody who comes now may pass those who wait
    bulkhead.release()
    assert (bulkhead.in_flight, bulkhead.queued) == (3, 1)
    bulkhead.release()
    await asyncio.gather(*queue)


@pytest.mark.parametrize("end", [None, Unreachable("broken"), ZeroDivisionError()])
async def test_the_limit_learns_from_every_attempt_however_it_ends(end: Exception | None) -> None:
    bulkhead = Bulkhead(6, attempt_timeout=0.8)
    for _ in range(5):
        bulkhead.try_acquire()
    for seconds, permits in ((0.399, 6), (0.401, 4)):
        await result_or_error(limited(bulkhead, FakeUpstream(seconds, end))(a_call()))
        assert bulkhead.limit.limit == permits


Schedule = Sequence[tuple[float, float, float]]


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 8)), max_size=20),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([None, 0.5, 2.0]),
)
def test_however_calls_are_cancelled_or_run_out_of_time_every_permit_comes_back(
    schedule: Schedule, capacity: int, fan_out: int, usual: float | None
) -> None:
    async def main() -> None:
        upstream, context = FakeUpstream(1), a_context(60, fan_out)
        bulkhead = Bulkhead(capacity, None if usual is None else that_takes(usual))
        fetch = limited(bulkhead, upstream)

        async def leave(start: float, patience: float, time: float) -> None:
            await asyncio.sleep(start)
            call = a_call(replace(context, deadline=start + time))
            task = asyncio.ensure_future(fetch(call))
            await asyncio.wait([task], timeout=patience)
            task.cancel()
            end = await result_or_error(task)
            assert isinstance(end, Answer | Overloaded | asyncio.CancelledError)
            assert not isinstance(end, Overloaded) or now() <= start + time + 1e-6

        async with leaving_nothing():
            await asyncio.gather(*(leave(*times) for times in schedule))
        assert upstream.most <= min(capacity, fan_out)
        assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)
        await _all_meet_inside(bulkhead, a_context(100, capacity), capacity)
        await _all_meet_inside(Bulkhead(fan_out), replace(context, deadline=100), fan_out)

    on_virtual_time(main)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=20), st.integers(1, 3))
def test_permits_are_given_in_the_order_of_asking_whoever_drops_out(
    callers: Sequence[tuple[int, int]], capacity: int
) -> None:
    async def main() -> None:
        began: list[int] = []
        bulkhead = Bulkhead(capacity, that_takes(0.5))

        async def note(call: Call) -> Answer:
            began.append(int(call.context.request_id))
            await asyncio.sleep(0.9)
            return an_answer()

        async def ask(number: int, pause: int, seconds: int) -> None:
            context = replace(a_context(pause + seconds / 4), request_id=str(number))
            await result_or_error(limited(bulkhead, note)(a_call(context)))

        asking: list[asyncio.Task[None]] = []
        for number, (pause, seconds) in enumerate(sorted(callers)):
            await asyncio.sleep(pause - now())
            asking.append(asyncio.create_task(ask(number, pause, seconds)))
        await asyncio.gather(*asking)
        assert began == sorted(began)

    on_virtual_time(main)


async def _all_meet_inside(bulkhead: Bulkhead, context: Context, number: int) -> None:
    """As many calls get in at once as there ever were permits."""
    everybody = asyncio.Barrier(number)

    async def meet(_: Call) -> Answer:
        await everybody.wait()
        return an_answer()

    async with asyncio.timeout(1):
        await asyncio.gather(*(limited(bulkhead, meet)(a_call(context)) for _ in range(number)))


@pytest.mark.parametrize(
    ("end", "more"), [(None, True), (NotFound("none"), True), (Unreachable("broken"), False)]
)
async def test_answers_bring_permits_back_and_that_there_is_nothing_is_one(
    end: Exception | None, more: bool
) -> None:
    bulkhead = Bulkhead(64, attempt_timeout=0.8)
    await at_once(limited(bulkhead, FakeUpstream(0.8, Unreachable("broken"))), 64)
    assert bulkhead.limit.limit == 4
    await at_once(limited(bulkhead, FakeUpstream(0.1, end)), 4)
    assert (bulkhead.limit.limit > 4) is more


async def at_once(fetch: Fetch, number: int) -> None:
    await asyncio.gather(*(result_or_error(fetch(a_call(a_context()))) for _ in range(number)))
