import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.call import Answer, Call, Event
from app.errors import CircuitOpen, InvalidPayload, Overloaded, Timeout, Unreachable
from app.resilience.events import (
    AttemptEnded,
    BreakerStateChanged,
    Coalesced,
    Hedging,
    RefreshEnded,
    Retrying,
    ServedFromCache,
    Shed,
)
from app.resilience.pipeline import Upstream
from tests.fakes import (
    FakeUpstream,
    a_cache_policy,
    a_call,
    a_context,
    a_shed_context,
    an_answer,
    leaving_nothing,
    now,
    result_or_error,
)
from tests.resilience.pipelines import BUSY, a_call_about, a_pipeline

pytestmark = pytest.mark.anyio


@dataclass
class Scripted:
    """Attempts take `seconds` and end as the next of `ends`; the last one repeats."""

    ends: list[Answer | Exception]
    seconds: float = 0.0
    began: list[float] = field(default_factory=list)

    async def __call__(self, _: Call) -> Answer:
        self.began.append(now())
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        await asyncio.sleep(self.seconds)
        if isinstance(end, Exception):
            raise end
        return end


def of_kind(kind: type[Event], events: Sequence[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def open_breaker(upstream: Upstream, mirror: int = 0) -> None:
    breaker = upstream.breakers[mirror]
    while (generation := breaker.try_acquire(now())) is not None:
        breaker.on_failure(generation, now())


async def test_cache_hit_starts_no_coalesced_flight(events: list[Event]) -> None:
    mirror = Scripted([an_answer(cache_policy=a_cache_policy(9.0))])
    upstream = a_pipeline(mirror, events=events)
    await upstream.fetch(a_call())
    open_breaker(upstream)
    upstream.bulkhead.try_acquire()
    call, tasks = a_call(a_shed_context(5.0)), asyncio.all_tasks()
    assert upstream.lookup(call)
    assert asyncio.all_tasks() == tasks
    assert events[1:] == [ServedFromCache(call, stale=False)]
    assert mirror.began == [0.0]


async def test_cache_refresh_and_calls_meanwhile_share_a_coalesced_flight(
    events: list[Event],
) -> None:
    mirror = Scripted(
        [an_answer(b"old", cache_policy=a_cache_policy(1, 9)), an_answer(b"new")], seconds=1
    )
    upstream = a_pipeline(mirror, events=events, attempt_timeout=2)
    await upstream.fetch(a_call())
    async with leaving_nothing():
        upstream.lookup(a_call())
        await asyncio.sleep(0.5)
        answer = await upstream.fetch(a_call(replace(a_context(), no_cache=True)))
        await asyncio.sleep(0.1)
    assert answer.data.json == b"new"
    assert (mirror.began, now()) == ([0.0, 1.0], 2.1)
    assert len(of_kind(Coalesced, events)) == len(of_kind(RefreshEnded, events)) == 1
    assert upstream.budget.balance == 10


async def test_cache_refresh_is_ended_by_refresh_timeout(events: list[Event]) -> None:
    mirror = Scripted([an_answer(cache_policy=a_cache_policy(0, 99)), Unreachable("x")])
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60)
    await upstream.fetch(a_call())
    mirror.seconds = 60
    async with leaving_nothing():
        upstream.lookup(a_call())
        await asyncio.sleep(3.01)
    (ended,) = of_kind(RefreshEnded, events)
    assert isinstance(ended.failure, Timeout)


async def test_coalesced_waiters_share_the_attempts_and_the_retry_budget(
    events: list[Event],
) -> None:
    mirror = Scripted([BUSY, BUSY, an_answer()])
    upstream = a_pipeline(mirror, events=events, retries=2)
    calls = [a_call() for _ in range(5)]
    async with leaving_nothing():
        answers = await asyncio.gather(*map(upstream.fetch, calls))
    assert all(answer is answers[0] for answer in answers)
    assert mirror.began == [0.0, 1.0, 2.0]
    assert upstream.budget.balance == 8
    assert len(of_kind(Retrying, events)) == 2
    assert [(call.tally.attempts, call.tally.retries) for call in calls] == [(3, 2)] * 5


async def test_shed_request_may_join_a_coalesced_flight_but_makes_no_attempts_of_its_own(
    events: list[Event],
) -> None:
    mirror = Scripted([BUSY, an_answer()])
    upstream = a_pipeline(mirror, events=events, retries=2)
    for _ in range(3):
        upstream.budget.try_withdraw()
    flight = asyncio.ensure_future(upstream.fetch(a_call()))
    await asyncio.sleep(0.5)
    context = a_shed_context(1.5)
    without_flight = a_call(context, upstream="users")
    with pytest.raises(Overloaded, match="waiting") as shed:
        await upstream.fetch(without_flight)
    assert (now(), shed.value.retry_after) == (0.5, 1.5)
    assert of_kind(Shed, events) == [Shed(without_flight, shed.value)]
    assert without_flight.tally.attempts == 0
    assert await upstream.fetch(a_call(context)) is await flight
    assert upstream.budget.balance == pytest.approx(6.2)  # only the flight has made a deposit
    assert len(mirror.began) == 2


async def test_retry_goes_to_the_next_mirror_round_robin() -> None:
    mirrors = Scripted([Unreachable("broken")]), Scripted([an_answer()])
    upstream, call = a_pipeline(*mirrors, retries=1), a_call()
    await upstream.fetch(call)
    assert [len(mirror.began) for mirror in mirrors] == [1, 1]
    assert (call.tally.attempts, call.tally.retries, call.tally.mirror) == (2, 1, 1)


@pytest.mark.parametrize(("mirrors", "attempts"), [(1, 1), (2, 2)])
async def test_retry_of_garbage_is_made_only_if_there_is_another_mirror(
    mirrors: int, attempts: int
) -> None:
    all_mirrors = [Scripted([InvalidPayload("garbage")]) for _ in range(mirrors)]
    upstream, call = a_pipeline(*all_mirrors, retries=1), a_call()
    await result_or_error(upstream.fetch(call))
    assert call.tally.attempts == attempts


async def test_retry_repeats_a_round_of_mirrors_with_its_hedges(events: list[Event]) -> None:
    mirrors = [Scripted([BUSY]) for _ in range(2)]
    upstream, call = a_pipeline(*mirrors, events=events, retries=1, hedge=5), a_call()
    assert await result_or_error(upstream.fetch(call)) is BUSY
    assert [mirror.began for mirror in mirrors] == [[0.0, 1.0]] * 2
    assert (call.tally.attempts, call.tally.retries, call.tally.hedges) == (4, 1, 2)
    assert len(of_kind(Retrying, events)) == 1


async def test_hedge_goes_out_when_an_attempt_is_late(events: list[Event]) -> None:
    mirrors = FakeUpstream(60), FakeUpstream(0.1)
    upstream = a_pipeline(*mirrors, events=events, hedge=0.2)
    async with leaving_nothing():
        await upstream.fetch(a_call())
    assert mirrors[0].cancelled == 1
    assert now() == pytest.approx(0.3)
    assert len(of_kind(Hedging, events)) == 1


@pytest.mark.parametrize("hedge", ["off", 5])
async def test_round_robin_passes_over_an_open_breaker_with_and_without_hedge(
    hedge: object,
) -> None:
    mirrors = FakeUpstream(0.5), FakeUpstream(0.5)
    upstream = a_pipeline(*mirrors, hedge=hedge)
    open_breaker(upstream, mirror=0)
    await asyncio.gather(*(upstream.fetch(a_call_about(number)) for number in range(4)))
    assert [len(mirror.began) for mirror in mirrors] == [0, 4]
    assert now() == 0.5
    assert upstream.budget.balance == 10


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


async def test_an_upstream_without_a_cache_layer_has_nothing_to_look_up_or_to_close() -> None:
    upstream = replace(a_pipeline(FakeUpstream()), fetch=FakeUpstream())
    assert upstream.lookup(a_call()) is None
    await upstream.aclose()
