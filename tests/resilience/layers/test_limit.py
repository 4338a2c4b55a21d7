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
from app.resilience.key_failures import KeyFailures
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
from tests.resilience.states import a_full_bulkhead, a_latency, failed, queue_at

pytestmark = pytest.mark.anyio


def limited(
    bulkhead: Bulkhead,
    upstream: Fetch,
    events: list[Event] | None = None,
    failures: KeyFailures | None = None,
) -> Fetch:
    emit = ([] if events is None else events).append
    return limit(bulkhead, KeyFailures() if failures is None else failures, emit)(upstream)


async def test_limit_of_the_bulkhead_bounds_the_attempts_in_flight_at_one_upstream() -> None:
    upstream, bulkhead = FakeUpstream(seconds=1), Bulkhead(3)
    await asyncio.gather(*(limited(bulkhead, upstream)(a_call()) for _ in range(20)))
    assert upstream.max_in_flight == 3
    assert now() == 7.0  # 20 attempts, three at a time: no permit is ever idle


async def test_limit_of_the_fan_out_bounds_the_attempts_in_flight_of_one_request() -> None:
    upstream, context = FakeUpstream(seconds=1), a_context(fan_out=2)
    layers = [limited(Bulkhead(64), upstream) for _ in range(3)]
    await asyncio.gather(*(fetch(a_call(context)) for fetch in layers * 2))
    assert upstream.max_in_flight == 2
    assert now() == 3.0


async def test_limit_takes_no_bulkhead_permit_for_a_call_that_waits_for_its_fan_out() -> None:
    upstream, bulkhead, greedy = FakeUpstream(seconds=1), Bulkhead(2), a_context(fan_out=1)
    fetch = limited(bulkhead, upstream)
    tasks = [asyncio.ensure_future(fetch(a_call(greedy))) for _ in range(5)]
    await asyncio.sleep(0)
    await fetch(a_call())
    assert now() == 1.0  # beside the greedy request's first attempt, not behind its fifth
    await asyncio.gather(*tasks)


async def test_limit_gives_the_permits_of_the_bulkhead_first_come_first_served() -> None:
    order: list[int] = []
    fetch = limited(Bulkhead(1), FakeUpstream(seconds=1))

    async def run(number: int) -> None:
        await fetch(a_call())
        order.append(number)

    await asyncio.gather(*map(run, range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_limit_shows_in_the_bulkhead_how_many_calls_are_in_flight_and_queued() -> None:
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
async def test_limit_releases_both_permits_when_the_attempt_fails(error: Exception) -> None:
    bulkhead, context = Bulkhead(1), a_context(fan_out=1)
    fetch = limited(bulkhead, FakeUpstream(1, error))
    assert await result_or_error(fetch(a_call(context))) is error
    await limited(bulkhead, FakeUpstream())(a_call(context))
    assert now() == 1.0


@pytest.mark.parametrize(("permits", "fan_out"), [(1, 10), (64, 1)])
async def test_limit_raises_overloaded_for_a_call_without_a_permit_at_its_deadline(
    permits: int, fan_out: int
) -> None:
    upstream, bulkhead, context = FakeUpstream(seconds=60), Bulkhead(permits), a_context(2, fan_out)
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


async def test_limit_gives_no_free_permit_to_a_call_that_comes_after_its_deadline() -> None:
    await asyncio.sleep(2)
    bulkhead, upstream, context = Bulkhead(1), FakeUpstream(), a_context(deadline=2.0)
    error = await result_or_error(limited(bulkhead, upstream)(a_call(context)))
    assert isinstance(error, Overloaded)
    assert (upstream.began, bulkhead.free, context.fan_out.locked()) == ([], True, False)


@pytest.mark.parametrize(
    ("permits", "queued", "wait"), [(1, 0, 0.5), (2, 0, 0.25), (2, 3, 1.0), (64, 0, 0.008)]
)
async def test_limit_sheds_a_call_if_the_bulkhead_queue_is_too_long_for_its_deadline(
    events: list[Event], permits: int, queued: int, wait: float
) -> None:
    bulkhead = a_full_bulkhead(permits, a_latency(0.5))
    queue = await queue_at(bulkhead, *[60.0] * queued)
    assert round(bulkhead.expected_wait(), 3) == wait
    too_late, in_time = a_call(a_context(wait + 0.49)), a_call(a_context(wait + 0.51))
    fetch = limited(bulkhead, FakeUpstream(), events)
    with pytest.raises(Overloaded, match="no free capacity before the deadline") as shed:
        await fetch(too_late)
    assert (now(), shed.value.retry_after) == (0.0, wait)
    assert events == [Shed(too_late, shed.value)]
    assert not too_late.context.fan_out.locked()
    task = asyncio.ensure_future(fetch(in_time))
    await asyncio.sleep(0)
    assert bulkhead.queued == queued + 1
    for _ in range(queued + 1):
        bulkhead.release()
    await asyncio.gather(task, *queue)
    assert events[1:] == [Queued(in_time, 0.0)]


async def test_limit_releases_a_permit_that_it_notices_only_after_the_deadline() -> None:
    bulkhead, upstream = a_full_bulkhead(1), FakeUpstream()
    call = a_call(a_context(2.0, fan_out=1))
    task = asyncio.ensure_future(result_or_error(limited(bulkhead, upstream)(call)))
    await asyncio.sleep(1.9)
    bulkhead.release()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop._jump.now += 0.2  # busy
    assert isinstance(await task, Overloaded)
    assert (bulkhead.free, call.context.fan_out.locked(), upstream.began) == (True, False, [])


async def test_limit_gives_no_permit_to_a_waiter_too_near_its_deadline_but_sheds_it(
    events: list[Event],
) -> None:
    bulkhead, upstream = a_full_bulkhead(1, a_latency(0.5)), FakeUpstream()
    fetch = limited(bulkhead, upstream, events)
    calls = [a_call(a_context(deadline)) for deadline in (1.4, 60.0, 2.4, 60.0)]
    tasks = [asyncio.ensure_future(result_or_error(fetch(call))) for call in calls]
    await asyncio.sleep(1)
    bulkhead.release()
    await asyncio.sleep(0)
    assert [type(await task) for task in tasks] == [Overloaded, Answer, Answer, Answer]
    assert now() == 1.0  # not at the deadline
    assert upstream.began == [1.0, 1.0, 1.0]
    (shed,) = (event for event in events if isinstance(event, Shed))
    assert (shed.call, shed.seconds) == (calls[0], 1.0)
    assert events[1:] == [Queued(call, 1.0) for call in calls[1:]]
    assert not calls[0].context.fan_out.locked()
    assert (bulkhead.in_flight, bulkhead.free) == (0, True)


@pytest.mark.parametrize("error", [None, Unreachable("broken"), ZeroDivisionError()])
async def test_limit_hands_every_attempt_to_the_adaptive_limit_however_it_ends(
    error: Exception | None,
) -> None:
    bulkhead = Bulkhead(6, attempt_timeout=0.8, time=now)
    for _ in range(5):
        bulkhead.try_acquire()
    for seconds, expected in ((0.399, 6), (0.401, 4)):
        await result_or_error(limited(bulkhead, FakeUpstream(seconds, error))(a_call()))
        assert bulkhead.limit.limit == expected


@pytest.mark.parametrize(
    ("error", "grows"), [(None, True), (NotFound("none"), True), (Unreachable("broken"), False)]
)
async def test_limit_lets_the_adaptive_limit_grow_with_answers_and_not_found_is_one(
    error: Exception | None, grows: bool
) -> None:
    bulkhead = Bulkhead(64, attempt_timeout=0.8, time=now)
    await at_once(limited(bulkhead, FakeUpstream(0.8, Unreachable("broken"))), 64)
    assert bulkhead.limit.limit == 4
    await at_once(limited(bulkhead, FakeUpstream(0.1, error)), 4)
    assert (bulkhead.limit.limit > 4) is grows


@pytest.mark.parametrize("in_a_row", [1, 3])
@pytest.mark.parametrize("end", [None, Unreachable("broken"), "cancelled"], ids=str)
async def test_limit_hands_no_attempt_of_a_key_that_has_counted_enough_to_the_adaptive_limit(
    end: Unreachable | str | None, in_a_row: int
) -> None:
    bulkhead, call = Bulkhead(4, attempt_timeout=0.8, time=now), a_call()
    failures = failed(KeyFailures(), call, 3 - in_a_row)
    failures.on_success(call.key, 0.0)
    failed(failures, call, in_a_row)
    upstream = FakeUpstream(5.0, end if isinstance(end, Unreachable) else None)
    fetch = limited(bulkhead, upstream, failures=failures)
    tasks = [asyncio.ensure_future(fetch(call)) for _ in range(4)]
    await asyncio.wait(tasks, timeout=0.5 if end == "cancelled" else None)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert (bulkhead.limit.limit, bulkhead.limit.answers, bulkhead.in_flight) == (4, 0, 0)


async def at_once(fetch: Fetch, calls: int) -> None:
    await asyncio.gather(*(result_or_error(fetch(a_call(a_context()))) for _ in range(calls)))


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 8)), max_size=20),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([None, 0.5, 2.0]),
)
def test_limit_releases_every_permit_though_calls_are_cancelled_or_reach_their_deadline(
    schedule: Sequence[tuple[float, float, float]], permits: int, fan_out: int, p50: float | None
) -> None:
    async def main() -> None:
        upstream, context = FakeUpstream(1), a_context(60, fan_out)
        bulkhead = Bulkhead(permits, None if p50 is None else a_latency(p50))
        fetch = limited(bulkhead, upstream)

        async def run(start: float, cancel_after: float, seconds: float) -> None:
            await asyncio.sleep(start)
            call = a_call(replace(context, deadline=start + seconds))
            task = asyncio.ensure_future(fetch(call))
            await asyncio.wait([task], timeout=cancel_after)
            task.cancel()
            result = await result_or_error(task)
            assert isinstance(result, Answer | Overloaded | asyncio.CancelledError)
            assert not isinstance(result, Overloaded) or now() <= start + seconds + 1e-6

        async with leaving_nothing():
            await asyncio.gather(*(run(*times) for times in schedule))
        assert upstream.max_in_flight <= min(permits, fan_out)
        assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)
        await _check_permits(bulkhead, a_context(100, permits), permits)
        await _check_permits(Bulkhead(fan_out), replace(context, deadline=100), fan_out)

    on_virtual_time(main)


async def _check_permits(bulkhead: Bulkhead, context: Context, permits: int) -> None:
    """As many calls can be in flight together as there are permits."""
    barrier = asyncio.Barrier(permits)

    async def meet(_: Call) -> Answer:
        await barrier.wait()
        return an_answer()

    async with asyncio.timeout(1):
        await asyncio.gather(*(limited(bulkhead, meet)(a_call(context)) for _ in range(permits)))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), max_size=20), st.integers(1, 3))
def test_limit_gives_permits_first_come_first_served_though_waiters_reach_their_deadline(
    callers: Sequence[tuple[int, int]], permits: int
) -> None:
    async def main() -> None:
        began: list[int] = []
        bulkhead = Bulkhead(permits, a_latency(0.5))

        async def upstream(call: Call) -> Answer:
            began.append(int(call.context.request_id))
            await asyncio.sleep(0.9)
            return an_answer()

        async def run(number: int, start: int, quarters: int) -> None:
            context = replace(a_context(start + quarters / 4), request_id=str(number))
            await result_or_error(limited(bulkhead, upstream)(a_call(context)))

        tasks: list[asyncio.Task[None]] = []
        for number, (start, quarters) in enumerate(sorted(callers)):
            await asyncio.sleep(start - now())
            tasks.append(asyncio.create_task(run(number, start, quarters)))
        await asyncio.gather(*tasks)
        assert began == sorted(began)

    on_virtual_time(main)
