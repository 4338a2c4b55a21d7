import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Event, Fetch
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
from app.resilience.breaker import Breaker, State
from app.resilience.events import BreakerStateChanged
from app.resilience.latency import Latency
from app.resilience.layers.circuit_breaker import circuit_breaker
from app.resilience.layers.timeout import timeout
from tests.fakes import FakeUpstream, a_call, a_context, now, on_virtual_time, result_or_error
from tests.resilience.states import a_latency, an_open_breaker, fail

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")
OPENED = BreakerStateChanged("posts", 7, "open")
CLOSED = BreakerStateChanged("posts", 7, "closed")
HALF_OPENED = BreakerStateChanged("posts", 7, "half_open")


def transitions(events: list[Event]) -> list[Event]:
    """Without `half_open`, which follows from the clock: a layer may emit it or not."""
    return [event for event in events if event != HALF_OPENED]


def protected(
    upstream: Fetch,
    breaker: Breaker,
    events: list[Event] | None = None,
    *,
    latency: Latency | None = None,
    attempt_timeout: float = 0.8,
) -> Fetch:
    layer = circuit_breaker(
        breaker,
        latency or Latency(),
        ([] if events is None else events).append,
        mirror=7,
        attempt_timeout=attempt_timeout,
    )
    return layer(upstream)


async def test_open_breaker_refuses_a_call_at_once_without_asking_the_mirror() -> None:
    upstream, breaker = FakeUpstream(), an_open_breaker()
    await asyncio.sleep(0.25)
    refusal = await result_or_error(protected(upstream, breaker)(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after == 0.75
    assert (upstream.began, now()) == ([], 0.25)


async def test_breaker_with_a_probe_in_flight_refuses_a_call_with_retry_after_one_second() -> None:
    fetch = protected(FakeUpstream(seconds=0.5), an_open_breaker())
    await asyncio.sleep(1)
    probe = asyncio.ensure_future(fetch(a_call()))
    await asyncio.sleep(0.25)
    refusal = await result_or_error(fetch(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after == 1.0
    await probe


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Timeout("late"), "open"),
        (Timeout("late", allotted=0.8), "open"),
        (Timeout("late", allotted=0.7), "half_open"),
        (Unreachable("broken"), "open"),
        (InvalidPayload("garbage"), "open"),
        (UpstreamStatus(500), "open"),
        (UpstreamStatus(503, retry_after=1.0), "open"),
        (UpstreamStatus(408), "open"),
        (UpstreamStatus(302), "closed"),
        (UpstreamStatus(400), "closed"),
        (UpstreamStatus(404), "closed"),
        (NotFound("there is no such resource"), "closed"),
        (Overloaded("no capacity of ours"), "half_open"),
        (TooManyRequests("no capacity of theirs"), "half_open"),
        (ZeroDivisionError(), "half_open"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)
async def test_breaker_state_after_a_probe_follows_from_how_the_probe_ended(
    events: list[Event], failure: Exception, state: State
) -> None:
    """A fault of the mirror: open. Its answer, even a 4xx: closed. Neither: half-open still."""
    breaker, upstream = an_open_breaker(), FakeUpstream(0, failure)
    await asyncio.sleep(1)
    assert await result_or_error(protected(upstream, breaker, events)(a_call())) is failure
    assert breaker.state(now()) == state
    assert transitions(events) == (
        [] if state == "half_open" else [BreakerStateChanged("posts", 7, state)]
    )
    assert (breaker.try_acquire(now()) is None) is (state == "open")


@pytest.mark.parametrize(("allotted", "state"), [(0.1, "open"), (0.08, "half_open")])
async def test_breaker_counts_a_timeout_that_was_allotted_what_most_attempts_take(
    allotted: float, state: State
) -> None:
    breaker, latency = an_open_breaker(), a_latency(0.1)
    await asyncio.sleep(1)
    await result_or_error(
        protected(FakeUpstream(0, Timeout("late", allotted=allotted)), breaker, latency=latency)(
            a_call()
        )
    )
    assert breaker.state(now()) == state


async def test_breaker_counts_a_full_attempt_timeout_however_slow_the_mirror_is() -> None:
    breaker, latency = an_open_breaker(), a_latency(5.0)
    await asyncio.sleep(1)
    upstream = FakeUpstream(0, Timeout("late", allotted=0.8))
    await result_or_error(protected(upstream, breaker, latency=latency)(a_call()))
    assert breaker.state(now()) == "open"


@given(st.floats(0, 1e7), st.floats(0.01, 10))
def test_breaker_counts_a_full_attempt_timeout_whatever_the_clock_says(
    start: float, attempt_timeout: float
) -> None:
    async def main() -> None:
        await asyncio.sleep(start)
        breaker = an_open_breaker(start - 2)
        exchange = timeout(attempt_timeout)(FakeUpstream(seconds=60))
        fetch = protected(exchange, breaker, attempt_timeout=attempt_timeout)
        assert isinstance(await result_or_error(fetch(a_call(a_context(1e9)))), Timeout)
        assert breaker.state(now()) == "open"

    on_virtual_time(main)


@pytest.mark.parametrize("end", ["cancelled", "a bug", "overloaded"])
async def test_breaker_ignores_what_says_nothing_of_the_mirror(end: str) -> None:
    errors = {"a bug": ZeroDivisionError(), "overloaded": Overloaded("no capacity")}
    breaker, upstream = Breaker(), FakeUpstream(0.01, errors.get(end))
    fetch = protected(upstream, breaker)
    for _ in range(40):
        task = asyncio.ensure_future(fetch(a_call()))
        await asyncio.sleep(0)
        if end == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is errors[end]
    assert len(upstream.began) == 40
    fail(breaker, 19, at=now())
    assert breaker.state(now()) == "closed"
    fail(breaker, 1, at=now())
    assert breaker.state(now()) == "open"


async def test_breaker_lets_the_next_probe_through_after_one_that_is_cancelled() -> None:
    breaker, slow, good = an_open_breaker(), FakeUpstream(seconds=60), FakeUpstream()
    await asyncio.sleep(1)
    probe = asyncio.ensure_future(protected(slow, breaker)(a_call()))
    await asyncio.sleep(0.1)
    assert isinstance(await result_or_error(protected(good, breaker)(a_call())), CircuitOpen)
    probe.cancel()
    await asyncio.wait([probe])
    assert (probe.cancelled(), breaker.state(now())) == (True, "half_open")
    await protected(good, breaker)(a_call())
    assert (breaker.state(now()), len(good.began)) == ("closed", 1)


async def test_half_open_breaker_lets_exactly_one_of_a_hundred_concurrent_calls_through() -> None:
    upstream = FakeUpstream(seconds=0.1)
    fetch = protected(upstream, an_open_breaker())
    await asyncio.sleep(1)
    results = await asyncio.gather(*(result_or_error(fetch(a_call())) for _ in range(100)))
    assert upstream.began == [1.0]
    assert [type(result) for result in results] == [Answer, *[CircuitOpen] * 99]


async def test_closed_breaker_emits_nothing_for_good_calls(events: list[Event]) -> None:
    breaker = Breaker()
    for _ in range(3):
        assert isinstance(await protected(FakeUpstream(), breaker, events)(a_call()), Answer)
    assert (breaker.state(now()), events) == ("closed", [])


async def test_breaker_emits_an_event_when_it_opens_stays_open_and_closes(
    events: list[Event],
) -> None:
    breaker = Breaker()
    broken, good = (
        protected(upstream, breaker, events)
        for upstream in (FakeUpstream(0, BROKEN), FakeUpstream())
    )
    for _ in range(19):
        await result_or_error(broken(a_call()))
    assert events == []
    for _ in range(3):  # the twentieth failure, and two calls that are refused
        await result_or_error(broken(a_call()))
    assert transitions(events) == [OPENED]
    await asyncio.sleep(1)
    await result_or_error(broken(a_call()))
    assert transitions(events) == [OPENED, OPENED]
    await asyncio.sleep(1)
    await good(a_call())
    assert transitions(events) == [OPENED, OPENED, CLOSED]


@pytest.mark.parametrize("failure", [BROKEN, Overloaded("no capacity"), UpstreamStatus(400)])
async def test_breaker_emits_nothing_for_calls_that_were_in_flight_when_it_opened(
    events: list[Event], failure: Failure
) -> None:
    breaker = Breaker()
    early = [
        asyncio.ensure_future(
            result_or_error(protected(FakeUpstream(seconds, failure), breaker, events)(a_call()))
        )
        for seconds in [0.5] * 30 + [1.5] * 30
    ]
    await asyncio.sleep(0.25)
    for _ in range(20):
        await result_or_error(protected(FakeUpstream(0, BROKEN), breaker, events)(a_call()))
    await asyncio.gather(*early)
    assert events == [OPENED]
