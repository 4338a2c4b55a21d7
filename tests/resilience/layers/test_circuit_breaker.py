import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Event
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
from app.resilience.key_failures import KeyFailures
from app.resilience.layers.timeout import timeout
from tests.fakes import FakeUpstream, a_call, a_context, now, on_virtual_time, result_or_error
from tests.resilience.layers.protected import CLOSED, OPENED, protected, transitions
from tests.resilience.pipelines import a_call_about
from tests.resilience.states import a_latency, an_open_breaker, fail, failed

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


async def test_open_breaker_refuses_a_call_at_once_without_asking_the_mirror() -> None:
    upstream, breaker = FakeUpstream(), an_open_breaker()
    await asyncio.sleep(0.25)
    refusal = await result_or_error(protected(upstream, breaker)(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after == 0.75
    assert (upstream.began, now()) == ([], 0.25)


@pytest.mark.parametrize(
    ("failure", "state"),
    [
        (Timeout("late"), "open"),
        (Timeout("late", allotted=0.8), "open"),
        (Timeout("late", allotted=0.721), "open"),  # some of its time was gone when it began
        (Timeout("late", allotted=0.719), "half_open"),
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
        [] if state == "half_open" else [BreakerStateChanged("posts", 0, state)]
    )
    assert (breaker.try_acquire(now()) is None) is (state == "open")


@pytest.mark.parametrize(("allotted", "state"), [(0.2, "open"), (0.199, "half_open")])
async def test_breaker_counts_a_timeout_that_was_allotted_twice_the_slowest_recent_answer(
    allotted: float, state: State
) -> None:
    breaker, latency = an_open_breaker(), a_latency(0.02, 0.1)
    await asyncio.sleep(1)
    upstream = FakeUpstream(0, Timeout("late", allotted=allotted))
    await result_or_error(protected(upstream, breaker, latency=latency)(a_call()))
    assert breaker.state(now()) == state


async def test_breaker_counts_a_full_attempt_timeout_however_slow_the_mirror_is() -> None:
    breaker, latency = an_open_breaker(), a_latency(5.0)
    await asyncio.sleep(1)
    upstream = FakeUpstream(0, Timeout("late", allotted=0.8))
    await result_or_error(protected(upstream, breaker, latency=latency)(a_call()))
    assert breaker.state(now()) == "open"


@given(st.floats(0, 1e7), st.floats(0.01, 9))
def test_breaker_counts_a_full_attempt_timeout_whatever_the_clock_says(
    start: float, attempt_timeout: float
) -> None:
    async def main() -> None:
        await asyncio.sleep(start)
        breaker = Breaker()
        fail(breaker, 19, now())
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
        assert breaker.state(now()) == "closed"
        if end == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is errors[end]
    assert len(upstream.began) == 40
    fail(breaker, 19, at=now())
    assert breaker.state(now()) == "closed"
    fail(breaker, 1, at=now())
    assert breaker.state(now()) == "open"


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
    for number in range(19):
        await result_or_error(broken(a_call_about(number)))
    assert events == []
    for number in range(3):  # the twentieth failure, and two calls that are refused
        await result_or_error(broken(a_call_about(number)))
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
            result_or_error(
                protected(FakeUpstream(seconds, failure), breaker, events)(a_call_about(number))
            )
        )
        for number, seconds in enumerate([0.5] * 30 + [1.5] * 30)
    ]
    await asyncio.sleep(0.25)
    for number in range(20):
        fetch = protected(FakeUpstream(0, BROKEN), breaker, events)
        await result_or_error(fetch(a_call_about(number)))
    await asyncio.gather(*early)
    assert events == [OPENED]


# Whose fault it is


async def test_breaker_counts_at_most_three_failures_of_one_key_in_its_window() -> None:
    breaker = Breaker()
    fetch = protected(FakeUpstream(0, BROKEN), breaker)
    for _ in range(100):
        await result_or_error(fetch(a_call_about(0)))
    fail(breaker, 16, at=now())
    assert breaker.state(now()) == "closed"
    fail(breaker, 1, at=now())
    assert breaker.state(now()) == "open"


async def test_breaker_shares_the_failures_of_a_key_with_those_of_the_other_mirrors() -> None:
    """Three of a key in all, wherever it failed."""
    breakers, failures = [Breaker(), Breaker()], KeyFailures()
    mirrors = [
        protected(FakeUpstream(0, BROKEN), one, others=[two], failures=failures)
        for one, two in (breakers, breakers[::-1])
    ]
    for n in range(100):
        await result_or_error(mirrors[n % 2](a_call_about(0)))
    assert [breaker.state(now()) for breaker in breakers] == ["closed", "closed"]
    assert failures.is_quarantined(a_call_about(0).key)


@pytest.mark.parametrize("failure", [None, NotFound("gone"), UpstreamStatus(400)], ids=repr)
async def test_breaker_takes_an_answer_of_a_key_even_a_4xx_as_its_success(
    failure: Failure | None,
) -> None:
    call = a_call_about(0)
    failures = failed(KeyFailures(), call, 5)
    await result_or_error(protected(FakeUpstream(0, failure), Breaker(), failures=failures)(call))
    assert not failures.is_quarantined(call.key)


@pytest.mark.parametrize(
    "failure",
    [
        Overloaded("full"),
        TooManyRequests("fewer"),
        Timeout("late", allotted=0.5),
        ZeroDivisionError(),
    ],
    ids=repr,
)
async def test_breaker_blames_no_key_for_what_says_nothing_of_it(failure: Exception) -> None:
    failures, call = KeyFailures(), a_call_about(0)
    fetch = protected(FakeUpstream(0, failure), Breaker(), failures=failures)
    for _ in range(5):
        await result_or_error(fetch(call))
    assert len(failures) == 0


@pytest.mark.parametrize(
    ("other", "state"),
    [(Breaker(), "open"), (an_open_breaker(), "closed"), (an_open_breaker(-5), "closed")],
    ids=["closed", "open", "half-open"],
)
async def test_breaker_opens_after_three_failures_only_if_another_mirror_is_closed(
    other: Breaker, state: State
) -> None:
    breaker = Breaker()
    fetch = protected(FakeUpstream(0, BROKEN), breaker, others=[other])
    for number in range(3):
        assert breaker.state(now()) == "closed"
        await result_or_error(fetch(a_call_about(number)))
    assert breaker.state(now()) == state


async def test_breakers_of_two_mirrors_do_not_both_open_after_three_failures() -> None:
    breakers = [Breaker(), Breaker()]
    mirrors = [
        protected(FakeUpstream(0, BROKEN), one, others=[two])
        for one, two in (breakers, breakers[::-1])
    ]
    for number in range(10):
        for mirror in mirrors:
            await result_or_error(mirror(a_call_about(number)))
    assert sorted(breaker.state(now()) for breaker in breakers) == ["closed", "open"]
