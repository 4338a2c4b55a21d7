import asyncio
from dataclasses import replace

import pytest

from app.call import Answer, Call, Event
from app.errors import InvalidPayload, Overloaded, Timeout, Unreachable
from app.resilience.events import (
    Coalesced,
    Hedging,
    RefreshEnded,
    Retrying,
    ServedFromCache,
    Shed,
)
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
from tests.resilience.pipelines import (
    BUSY,
    Scripted,
    a_call_about,
    a_pipeline,
    of_kind,
    open_breaker,
)
from tests.resilience.races import Mirror, attempts_of

pytestmark = pytest.mark.anyio


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
    mirrors = Mirror((0.0, BUSY), (0.7, None)), Mirror((0.0, BUSY), (0.0, None))
    upstream, call = a_pipeline(*mirrors, events=events, retries=1, hedge=0.5), a_call()
    assert await upstream.fetch(call) is mirrors[1].answer
    assert attempts_of(*mirrors) == [[0.0, 1.0], [0.0, 1.5]]
    assert (call.tally.attempts, call.tally.retries, call.tally.hedges) == (4, 1, 2)
    assert len(of_kind(Retrying, events)) == 1


async def test_retry_and_hedge_stop_when_the_key_has_only_failed(events: list[Event]) -> None:
    mirrors = [Scripted([BUSY]) for _ in range(2)]
    upstream, first = a_pipeline(*mirrors, events=events, retries=1, hedge=5), a_call()
    assert await result_or_error(upstream.fetch(first)) is BUSY
    assert (first.tally.attempts, first.tally.retries, first.tally.hedges) == (3, 1, 1)
    balance = upstream.budget.balance
    calls = [a_call() for _ in range(4)]
    for call in calls:
        await result_or_error(upstream.fetch(call))
    assert [call.tally.attempts for call in calls] == [1, 1, 1, 0]  # the last one in quarantine
    await asyncio.sleep(60)
    await result_or_error(upstream.fetch(probe := a_call(a_context(99.0))))
    assert probe.tally.attempts == 1
    assert sum(len(mirror.began) for mirror in mirrors) == 7
    assert upstream.budget.balance == pytest.approx(min(balance + 4 * 0.2, 10))


async def test_quarantine_stands_below_cache_and_shed_so_stale_data_may_stand_in() -> None:
    stale = an_answer(b"old", cache_policy=a_cache_policy(0, if_error=99))
    mirror = Scripted([stale, BUSY])
    upstream = a_pipeline(mirror)
    for _ in range(9):
        answer = await upstream.fetch(a_call())
        assert answer.data is stale.data
    assert len(mirror.began) == 7  # one good, six in a row
    async with leaving_nothing():
        with pytest.raises(Overloaded, match="waiting"):
            await upstream.fetch(Call(a_call_about(2).question, a_shed_context(5.0)))
        await upstream.fetch(a_call())
    shed = a_call(a_shed_context(5.0))
    assert (await upstream.fetch(shed)).stale
    assert (len(mirror.began), shed.tally.attempts) == (7, 0)


async def test_quarantined_calls_that_are_equal_share_one_coalesced_probe() -> None:
    mirror = Scripted([BUSY], seconds=0.1)
    upstream = a_pipeline(mirror)
    for _ in range(6):
        await result_or_error(upstream.fetch(a_call()))
    await asyncio.sleep(1)
    calls = [a_call() for _ in range(5)]
    assert (
        await asyncio.gather(*(result_or_error(upstream.fetch(call)) for call in calls))
        == [BUSY] * 5
    )
    assert [call.tally.attempts for call in calls] == [1] * 5
    assert len(mirror.began) == 7


async def test_coalesced_waiter_has_the_retry_that_its_leader_had_no_time_for() -> None:
    mirror = Scripted([Unreachable("broken"), an_answer()], seconds=0.1)
    upstream = a_pipeline(mirror, retries=1)
    for _ in range(20):
        upstream.latency.add(0.1)
    calls = a_call(a_context(0.15)), a_call(a_context(5.0))
    async with leaving_nothing():
        results = await asyncio.gather(*(result_or_error(upstream.fetch(call)) for call in calls))
    assert [type(result) for result in results] == [Unreachable, Answer]
    assert mirror.began == pytest.approx([0.0, 0.1])


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


async def test_an_upstream_without_a_cache_layer_has_nothing_to_look_up_or_to_close() -> None:
    upstream = replace(a_pipeline(FakeUpstream()), fetch=FakeUpstream())
    assert upstream.lookup(a_call()) is None
    await upstream.aclose()
