import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Event, Fetch
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)
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
from app.resilience.pipeline import Upstream, pipeline
from app.resilience.store import Store
from app.settings import UpstreamSettings
from tests.fakes import (
    FakeUpstream,
    a_cache_policy,
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

BUSY = UpstreamStatus(503, retry_after=1.0)


@dataclass
class Scripted:
    """A mirror whose calls end as scripted, the last way from then on."""

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


@pytest.fixture
def events() -> list[Event]:
    return []


def a_pipeline(*mirrors: Fetch, events: list[Event] | None = None, **settings: Any) -> Upstream:
    return pipeline(
        mirrors,
        UpstreamSettings(**({"retries": 0} | settings)),
        store=Store(),
        request_timeout=3.0,
        emit=([] if events is None else events).append,
    )


def about(number: int, deadline: float = 10.0) -> Call:
    """Calls about different numbers share nothing."""
    return Call(replace(a_question(), target=f"/posts/{number}"), a_context(deadline))


def of_kind(kind: type[Event], events: Sequence[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def open_circuit(upstream: Upstream, mirror: int = 0) -> None:
    breaker = upstream.breakers[mirror]
    while (generation := breaker.try_acquire(now())) is not None:
        breaker.on_failure(generation, now())


async def test_what_is_stored_starts_no_flight(events: list[Event]) -> None:
    mirror = Scripted([an_answer(cache_policy=a_cache_policy(9.0))])
    upstream = a_pipeline(mirror, events=events)
    await upstream.fetch(a_call())
    open_circuit(upstream)
    upstream.bulkhead.try_acquire()
    call, tasks = (
        a_call(a_shed_context(5.0)),
        asyncio.all_tasks(),
    )
    assert upstream.lookup(call)
    assert asyncio.all_tasks() == tasks
    assert events[1:] == [ServedFromCache(call, stale=False)]
    assert mirror.began == [0.0]


async def test_a_refresh_and_those_who_ask_meanwhile_share_one_flight(events: list[Event]) -> None:
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


async def test_a_refresh_gets_no_more_time_than_refresh_timeout(events: list[Event]) -> None:
    mirror = Scripted([an_answer(cache_policy=a_cache_policy(0, 99)), Unreachable("x")])
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60)
    await upstream.fetch(a_call())
    mirror.seconds = 60
    async with leaving_nothing():
        upstream.lookup(a_call())
        await asyncio.sleep(3.01)
    (ended,) = of_kind(RefreshEnded, events)
    assert isinstance(ended.failure, Timeout)


async def test_passengers_share_the_attempts_and_their_price(events: list[Event]) -> None:
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


async def test_who_was_turned_away_may_fly_with_others_but_begins_nothing(
    events: list[Event],
) -> None:
    mirror = Scripted([BUSY, an_answer()])
    upstream = a_pipeline(mirror, events=events, retries=2)
    for _ in range(3):
        upstream.budget.try_withdraw()
    flight = asyncio.ensure_future(upstream.fetch(a_call()))
    await asyncio.sleep(0.5)
    congested = a_shed_context(1.5)
    alone = a_call(congested, upstream="users")
    with pytest.raises(Overloaded, match="waiting") as turned_away:
        await upstream.fetch(alone)
    assert (now(), turned_away.value.retry_after) == (0.5, 1.5)
    assert of_kind(Shed, events) == [Shed(alone, turned_away.value)]
    assert alone.tally.attempts == 0
    assert await upstream.fetch(a_call(congested)) is await flight
    assert upstream.budget.balance == pytest.approx(6.2)  # it has not even earned
    assert len(mirror.began) == 2


async def test_a_retry_goes_to_another_mirror() -> None:
    mirrors = Scripted([Unreachable("broken")]), Scripted([an_answer()])
    upstream, call = a_pipeline(*mirrors, retries=1), a_call()
    await upstream.fetch(call)
    assert [len(mirror.began) for mirror in mirrors] == [1, 1]
    assert (call.tally.attempts, call.tally.retries, call.tally.mirror) == (2, 1, 1)


@pytest.mark.parametrize(("mirrors", "attempts"), [(1, 1), (2, 2)])
async def test_garbage_is_asked_for_again_only_elsewhere(mirrors: int, attempts: int) -> None:
    all_mirrors = [Scripted([InvalidPayload("garbage")]) for _ in range(mirrors)]
    upstream, call = a_pipeline(*all_mirrors, retries=1), a_call()
    await result_or_error(upstream.fetch(call))
    assert call.tally.attempts == attempts


async def test_one_turn_of_the_mirrors_is_one_try(events: list[Event]) -> None:
    mirrors = [Scripted([BUSY]) for _ in range(2)]
    upstream, call = a_pipeline(*mirrors, events=events, retries=1, hedge=5), a_call()
    assert await result_or_error(upstream.fetch(call)) is BUSY
    assert [mirror.began for mirror in mirrors] == [[0.0, 1.0]] * 2
    assert (call.tally.attempts, call.tally.retries, call.tally.hedges) == (4, 1, 2)
    assert len(of_kind(Retrying, events)) == 1


async def test_a_hedge_goes_out_when_an_attempt_is_late(events: list[Event]) -> None:
    mirrors = FakeUpstream(60), FakeUpstream(0.1)
    upstream = a_pipeline(*mirrors, events=events, hedge=0.2)
    async with leaving_nothing():
        await upstream.fetch(a_call())
    assert mirrors[0].cancelled == 1
    assert now() == pytest.approx(0.3)
    assert len(of_kind(Hedging, events)) == 1


@pytest.mark.parametrize("hedge", ["off", 5])
async def test_a_mirror_whose_circuit_is_open_is_passed_over(hedge: object) -> None:
    mirrors = FakeUpstream(0.5), FakeUpstream(0.5)
    upstream = a_pipeline(*mirrors, hedge=hedge)
    open_circuit(upstream, mirror=0)
    await asyncio.gather(*(upstream.fetch(about(number)) for number in range(4)))
    assert [len(mirror.began) for mirror in mirrors] == [0, 4]
    assert now() == 0.5
    assert upstream.budget.balance == 10


async def test_an_open_circuit_does_not_queue() -> None:
    mirror = FakeUpstream(5)
    upstream = a_pipeline(mirror, concurrency=1, attempt_timeout=60)
    holder = asyncio.ensure_future(upstream.fetch(about(1)))
    await asyncio.sleep(0.5)
    open_circuit(upstream)
    with pytest.raises(CircuitOpen) as refused:
        await upstream.fetch(about(2))
    assert (now(), refused.value.retry_after, upstream.bulkhead.queued) == (0.5, 1.0, 0)
    await holder


async def test_the_wait_for_a_permit_is_not_held_against_a_mirror(events: list[Event]) -> None:
    upstream = a_pipeline(FakeUpstream(9), events=events, concurrency=1, attempt_timeout=60)
    holder = asyncio.ensure_future(upstream.fetch(about(0)))
    await asyncio.sleep(0.1)
    ends = await asyncio.gather(
        *(result_or_error(upstream.fetch(about(n, 2))) for n in range(1, 30))
    )
    assert {type(end) for end in ends} == {Overloaded}
    assert upstream.breakers[0].state(now()) == "closed"
    await holder


async def test_who_flies_with_somebody_in_a_hurry_is_not_dropped_from_the_queue_with_them() -> None:
    mirror = FakeUpstream(0.3)
    upstream = a_pipeline(mirror, concurrency=1)
    for seconds in [0.5] * 100 + [1.2] * 20:  # with a tail, one needs more than the median
        upstream.latency.add(seconds)
    upstream.bulkhead.try_acquire()
    calls = about(1, 1.9), about(1, 9)
    ends = asyncio.gather(*(result_or_error(upstream.fetch(call)) for call in calls))
    await asyncio.sleep(1)
    upstream.bulkhead.release()
    hasty, patient = await ends
    assert isinstance(hasty, Overloaded)
    assert isinstance(patient, Answer)
    assert mirror.began == [1.0]


async def test_nobody_backs_off_with_a_permit() -> None:
    mirror = Scripted([BUSY, an_answer()])
    upstream = a_pipeline(mirror, retries=1, concurrency=1)
    context = a_context(fan_out=1)
    one = asyncio.ensure_future(upstream.fetch(a_call(context)))
    await asyncio.sleep(0.5)
    assert (upstream.bulkhead.in_flight, context.fan_out.locked()) == (0, False)
    await upstream.fetch(a_call(context, upstream="users"))
    assert now() == 0.5
    await one
    assert mirror.began == [0.0, 0.5, 1.0]


async def test_the_wait_for_a_permit_is_not_the_attempts_time(events: list[Event]) -> None:
    upstream = a_pipeline(FakeUpstream(seconds=0.7), events=events, concurrency=1)
    await asyncio.gather(*(upstream.fetch(about(number)) for number in range(3)))
    assert now() == pytest.approx(2.1)
    assert [one.failure for one in of_kind(AttemptEnded, events)] == [None, None, None]


async def test_an_attempt_that_timed_out_is_counted_and_told(events: list[Event]) -> None:
    call = a_call()
    failure = await result_or_error(a_pipeline(FakeUpstream(seconds=60), events=events).fetch(call))
    assert isinstance(failure, Timeout)
    assert [(one.call, one.failure) for one in of_kind(AttemptEnded, events)] == [(call, failure)]
    assert call.tally.attempts == 1
    assert now() == pytest.approx(0.8)


@pytest.mark.parametrize(("attempt_timeout", "seconds"), [(0.8, 0.8), (30, 3.0)])
async def test_attempts_that_had_a_fair_time_and_timed_out_open_the_circuit(
    events: list[Event], attempt_timeout: float, seconds: float
) -> None:
    upstream = a_pipeline(FakeUpstream(60), events=events, attempt_timeout=attempt_timeout)
    await asyncio.gather(*(result_or_error(upstream.fetch(about(n, seconds))) for n in range(20)))
    assert of_kind(BreakerStateChanged, events) == [BreakerStateChanged("posts", 0, "open")]
    assert isinstance(await result_or_error(upstream.fetch(about(20))), CircuitOpen)


async def test_an_attempt_that_the_deadline_ends_timed_out_and_is_told(events: list[Event]) -> None:
    upstream = a_pipeline(FakeUpstream(seconds=60), events=events, attempt_timeout=30)
    failure = await result_or_error(upstream.fetch(a_call(a_context(deadline=2.0))))
    assert isinstance(failure, Timeout)
    assert [one.failure for one in of_kind(AttemptEnded, events)] == [failure]
    assert now() == pytest.approx(2.0)


async def test_a_call_that_waits_for_a_permit_in_vain_is_overloaded_and_no_attempt(
    events: list[Event],
) -> None:
    mirror = FakeUpstream(seconds=60)
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60, concurrency=1)
    patient = asyncio.ensure_future(upstream.fetch(about(1, 30)))
    await asyncio.sleep(0.1)
    call = about(2, 2.0)
    assert isinstance(await result_or_error(upstream.fetch(call)), Overloaded)
    assert 2.0 <= now() <= 2.01
    assert (call.tally.attempts, of_kind(AttemptEnded, events), len(mirror.began)) == (0, [], 1)
    await result_or_error(patient)


@pytest.mark.parametrize(("concurrency", "fan_out"), [(1, 10), (64, 1)])
async def test_a_permit_that_comes_only_at_the_deadline_is_no_permit_before_it(
    events: list[Event], concurrency: int, fan_out: int
) -> None:
    mirror, context = FakeUpstream(seconds=60), a_context(deadline=2.0, fan_out=fan_out)
    upstream = a_pipeline(mirror, events=events, attempt_timeout=60, concurrency=concurrency)
    first, second = a_call(context), a_call(context, upstream="users")
    ends = await asyncio.gather(
        result_or_error(upstream.fetch(first)), result_or_error(upstream.fetch(second))
    )
    assert isinstance(ends[0], Timeout)
    assert isinstance(ends[1], Overloaded)
    assert (first.tally.attempts, second.tally.attempts) == (1, 0)
    assert [one.call for one in of_kind(AttemptEnded, events)] == [first]
    assert len(mirror.began) == 1


@dataclass(frozen=True)
class Client:
    start: float
    patience: float
    about: int
    leaves: float | None


CLIENTS = st.lists(
    st.builds(
        Client,
        start=st.floats(0, 4),
        patience=st.floats(0.001, 4),
        about=st.integers(0, 4),
        leaves=st.none() | st.floats(0, 4),
    ),
    min_size=1,
    max_size=20,
)
ENDS = st.lists(
    st.tuples(st.floats(0, 3), st.sampled_from([None, None, Unreachable("broken"), BUSY])),
    min_size=1,
    max_size=10,
)


@given(
    CLIENTS,
    ENDS,
    st.integers(1, 3),
    st.floats(0.1, 3),
    st.integers(1, 3),
    st.sampled_from(["off", "auto", 0.0, 0.2]),
    st.booleans(),
)
def test_whatever_happens_a_call_is_over_by_its_deadline_and_nothing_is_left(
    clients: Sequence[Client],
    ends: Sequence[tuple[float, Failure | None]],
    concurrency: int,
    attempt_timeout: float,
    mirrors: int,
    hedge: object,
    known: bool,
) -> None:
    async def main() -> None:
        in_flight = most = asked = 0

        async def mirror(call: Call) -> Answer:
            nonlocal in_flight, most, asked
            assert now() < call.context.deadline
            seconds, failure = ends[asked % len(ends)]
            asked += 1
            in_flight += 1
            most = max(most, in_flight)
            try:
                await asyncio.sleep(seconds)
            finally:
                in_flight -= 1
            if failure is not None:
                raise failure
            return an_answer(
                call.question.target.encode(), cache_policy=a_cache_policy(now() + 0.3, 0.3, 1.0)
            )

        upstream = a_pipeline(
            *[mirror] * mirrors,
            concurrency=concurrency,
            attempt_timeout=attempt_timeout,
            retries=2,
            hedge=hedge,
        )
        for _ in range(20 if known else 0):
            upstream.latency.add(0.5)

        async def one(client: Client) -> None:
            await asyncio.sleep(client.start)
            call = about(client.about, client.start + client.patience)
            answer = upstream.lookup(call)
            if answer is None:
                asking = asyncio.ensure_future(result_or_error(upstream.fetch(call)))
                await asyncio.wait([asking], timeout=client.leaves)
                asking.cancel()
                end = await result_or_error(asking)
                assert now() <= client.start + client.patience + 0.05
                assert isinstance(end, Answer | Failure | asyncio.CancelledError)
                answer = end if isinstance(end, Answer) else None
            if answer is not None:
                assert answer.data.json == call.question.target.encode()

        async with leaving_nothing():
            await asyncio.gather(*map(one, clients))
            await upstream.aclose()
        assert most <= concurrency
        assert (in_flight, upstream.bulkhead.in_flight, upstream.bulkhead.queued) == (0, 0, 0)

    on_virtual_time(main)
