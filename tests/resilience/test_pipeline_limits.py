"""The pipeline's permits, timeouts and deadlines."""

import asyncio

import pytest

from app.call import Answer, Event
from app.errors import CircuitOpen, Overloaded, Timeout
from app.resilience.events import (
    AttemptEnded,
    BreakerStateChanged,
)
from tests.fakes import (
    FakeUpstream,
    a_call,
    a_context,
    an_answer,
    now,
    result_or_error,
)
from tests.resilience.pipelines import (
    BUSY,
    Scripted,
    a_call_about,
    a_pipeline,
    of_kind,
    open_breaker,
)

pytestmark = pytest.mark.anyio


async def test_open_breaker_refuses_a_call_before_it_queues_at_the_bulkhead() -> None:
    mirror = FakeUpstream(5)
    upstream = a_pipeline(mirror, concurrency=1, attempt_timeout=60)
    holder = asyncio.ensure_future(upstream.fetch(a_call_about(1)))
    await asyncio.sleep(0.5)
    open_breaker(upstream)
    with pytest.raises(CircuitOpen) as refused:
        await upstream.fetch(a_call_about(2))
    assert (now(), refused.value.retry_after, upstream.bulkhead.queued) == (0.5, 1.0, 0)
    await holder


async def test_breaker_does_not_count_calls_that_waited_for_a_bulkhead_permit_in_vain(
    events: list[Event],
) -> None:
    upstream = a_pipeline(FakeUpstream(9), events=events, concurrency=1, attempt_timeout=60)
    holder = asyncio.ensure_future(upstream.fetch(a_call_about(0)))
    await asyncio.sleep(0.1)
    results = await asyncio.gather(
        *(result_or_error(upstream.fetch(a_call_about(n, 2))) for n in range(1, 30))
    )
    assert {type(result) for result in results} == {Overloaded}
    assert upstream.breakers[0].state(now()) == "closed"
    await holder


async def test_coalesced_waiter_is_not_shed_from_the_queue_with_its_leader() -> None:
    mirror = FakeUpstream(0.3)
    upstream = a_pipeline(mirror, concurrency=1)
    for seconds in [0.5] * 100 + [1.2] * 20:  # typical_max is 1.0, twice the median
        upstream.latency.add(seconds)
    upstream.bulkhead.try_acquire()
    calls = a_call_about(1, 1.9), a_call_about(1, 9)
    results = asyncio.gather(*(result_or_error(upstream.fetch(call)) for call in calls))
    await asyncio.sleep(1)
    upstream.bulkhead.release()
    leader, waiter = await results
    assert isinstance(leader, Overloaded)
    assert isinstance(waiter, Answer)
    assert mirror.began == [1.0]


async def test_retry_backoff_holds_no_permit_of_the_bulkhead_or_the_fan_out() -> None:
    mirror = Scripted([BUSY, an_answer()])
    upstream = a_pipeline(mirror, retries=1, concurrency=1)
    context = a_context(fan_out=1)
    first = asyncio.ensure_future(upstream.fetch(a_call(context)))
    await asyncio.sleep(0.5)
    assert (upstream.bulkhead.in_flight, context.fan_out.locked()) == (0, False)
    await upstream.fetch(a_call(context, upstream="users"))
    assert now() == 0.5
    await first
    assert mirror.began == [0.0, 0.5, 1.0]


async def test_attempt_timeout_does_not_include_the_wait_for_a_bulkhead_permit(
    events: list[Event],
) -> None:
    upstream = a_pipeline(FakeUpstream(seconds=0.7), events=events, concurrency=1)
    await asyncio.gather(*(upstream.fetch(a_call_about(number)) for number in range(3)))
    assert now() == pytest.approx(2.1)
    assert [event.failure for event in of_kind(AttemptEnded, events)] == [None, None, None]


async def test_attempt_timeout_is_counted_and_emitted(events: list[Event]) -> None:
    call = a_call()
    failure = await result_or_error(a_pipeline(FakeUpstream(seconds=60), events=events).fetch(call))
    assert isinstance(failure, Timeout)
    ended = of_kind(AttemptEnded, events)
    assert [(event.call, event.failure) for event in ended] == [(call, failure)]
    assert call.tally.attempts == 1
    assert now() == pytest.approx(0.8)


@pytest.mark.parametrize(("attempt_timeout", "seconds"), [(0.8, 0.8), (30, 3.0)])
async def test_breaker_opens_after_timeouts_that_were_allotted_a_fair_time(
    events: list[Event], attempt_timeout: float, seconds: float
) -> None:
    upstream = a_pipeline(FakeUpstream(60), events=events, attempt_timeout=attempt_timeout)
    await asyncio.gather(
        *(result_or_error(upstream.fetch(a_call_about(n, seconds))) for n in range(20))
    )
    assert of_kind(BreakerStateChanged, events) == [BreakerStateChanged("posts", 0, "open")]
    assert isinstance(await result_or_error(upstream.fetch(a_call_about(20))), CircuitOpen)


async def test_deadline_ends_an_attempt_as_a_timeout_and_it_is_emitted(events: list[Event]) -> None:
    upstream = a_pipeline(FakeUpstream(seconds=60), events=events, attempt_timeout=30)
    failure = await result_or_error(upstream.fetch(a_call(a_context(deadline=2.0))))
    assert isinstance(failure, Timeout)
    assert [event.failure for event in of_kind(AttemptEnded, events)] == [failure]
    assert now() == pytest.approx(2.0)


async def test_call_without_a_bulkhead_permit_at_its_deadline_is_overloaded_without_an_attempt(
    events: list[Event],
) -> None:
    mirror = FakeUpstream(seconds=60)
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60, concurrency=1)
    holder = asyncio.ensure_future(upstream.fetch(a_call_about(1, 30)))
    await asyncio.sleep(0.1)
    call = a_call_about(2, 2.0)
    assert isinstance(await result_or_error(upstream.fetch(call)), Overloaded)
    assert 2.0 <= now() <= 2.01
    assert (call.tally.attempts, of_kind(AttemptEnded, events), len(mirror.began)) == (0, [], 1)
    await result_or_error(holder)


@pytest.mark.parametrize(("concurrency", "fan_out"), [(1, 10), (64, 1)])
async def test_permit_that_is_released_only_at_the_deadline_begins_no_attempt(
    events: list[Event], concurrency: int, fan_out: int
) -> None:
    mirror, context = FakeUpstream(seconds=60), a_context(deadline=2.0, fan_out=fan_out)
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60, concurrency=concurrency)
    first, second = a_call(context), a_call(context, upstream="users")
    results = await asyncio.gather(
        result_or_error(upstream.fetch(first)), result_or_error(upstream.fetch(second))
    )
    assert isinstance(results[0], Timeout)
    assert isinstance(results[1], Overloaded)
    assert (first.tally.attempts, second.tally.attempts) == (1, 0)
    assert [event.call for event in of_kind(AttemptEnded, events)] == [first]
    assert len(mirror.began) == 1
