import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

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

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


def fail(breaker: Breaker, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        generation = breaker.try_acquire(at)
        assert generation is not None
        breaker.on_failure(generation, at)


def succeed(breaker: Breaker, times: int, at: float = 0.0) -> None:
    for _ in range(times):
        generation = breaker.try_acquire(at)
        assert generation is not None
        breaker.on_success(generation, at)


def an_open_breaker(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, 20, at)
    assert breaker.state(at) == "open"
    return breaker


# The state machine


@pytest.mark.parametrize(
    ("successes", "failures"), [(0, 20), (1, 19), (10, 10), (20, 20), (50, 50), (1000, 50)]
)
def test_it_opens_with_the_failure_that_makes_half_of_twenty_to_a_hundred_results(
    successes: int, failures: int
) -> None:
    breaker = Breaker()
    succeed(breaker, successes)
    fail(breaker, failures - 1)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 1)
    assert breaker.state(0.0) == "open"


@pytest.mark.parametrize(("pause", "state"), [(10.0, "open"), (10.01, "closed")])
def test_what_is_older_than_ten_seconds_says_nothing_any_more(pause: float, state: State) -> None:
    breaker = Breaker()
    fail(breaker, 19)
    fail(breaker, 1, at=pause)
    assert breaker.state(pause) == state


def test_it_rests_for_a_second_and_then_lets_one_call_through() -> None:
    breaker = an_open_breaker(at=5.0)
    assert (breaker.try_acquire(5.0), breaker.try_acquire(5.999)) == (None, None)
    assert (breaker.retry_after(5.0), breaker.retry_after(5.75)) == (1.0, 0.25)
    assert (breaker.state(5.999), breaker.state(6.0)) == ("open", "half_open")
    assert breaker.retry_after(6.0) == 0.0
    assert breaker.try_acquire(6.0) is not None
    assert (breaker.try_acquire(6.0), breaker.try_acquire(60.0)) == (None, None)
    assert breaker.retry_after(6.0) == 1.0


def test_a_failed_probe_opens_it_anew_and_a_good_one_closes_it_with_a_clean_slate() -> None:
    breaker = an_open_breaker()
    fail(breaker, 1, at=1.0)
    assert (breaker.state(1.999), breaker.state(2.0)) == ("open", "half_open")
    succeed(breaker, 1, at=2.0)
    assert breaker.state(2.0) == "closed"
    fail(breaker, 19, at=2.0)
    assert breaker.state(2.0) == "closed"


def test_results_of_an_older_generation_do_not_count() -> None:
    breaker = Breaker()
    early = [breaker.try_acquire(0.0) for _ in range(60)]
    fail(breaker, 20)
    probe = breaker.try_acquire(1.0)
    assert probe is not None
    for generation in early:
        assert generation is not None
        breaker.on_success(generation, 1.0)
        breaker.on_failure(generation, 1.0)
        breaker.on_ignored(generation)
    assert breaker.state(1.0) == "half_open"
    assert breaker.try_acquire(1.0) is None  # none of them was the probe
    breaker.on_success(probe, 1.0)
    assert breaker.state(1.0) == "closed"


def test_an_abandoned_probe_makes_way_for_the_next() -> None:
    breaker = an_open_breaker()
    probe = breaker.try_acquire(1.0)
    assert probe is not None
    breaker.on_ignored(probe)
    assert breaker.state(1.0) == "half_open"
    assert breaker.try_acquire(1.0) is not None
    assert breaker.try_acquire(1.0) is None


class BesideANaiveOne(RuleBasedStateMachine):
    """All times are exact in binary, so that both have the same idea of when a second is over."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now = Breaker(), 1000.0
        # The naive one: everything that it has heard since it last turned, and who is asked.
        self.heard: list[tuple[float, bool]] = []
        self.opened: float | None = None
        self.turns = 0
        self.probing = False
        self.asked: list[tuple[int, int]] = []
        """What the breaker gave to each, and how often the naive one had turned by then."""

    def admit(self) -> None:
        resting = self.opened is not None and (self.now - self.opened < 1 or self.probing)
        generation = self.breaker.try_acquire(self.now)
        assert (generation is None) is resting
        if generation is not None:
            self.probing = self.opened is not None
            self.asked.append((generation, self.turns))

    def end(self, which: int, how: str) -> None:
        generation, turns = self.asked.pop(which)
        match how:
            case "well":
                self.breaker.on_success(generation, self.now)
            case "badly":
                self.breaker.on_failure(generation, self.now)
            case _:
                self.breaker.on_ignored(generation)
        if turns != self.turns:
            return
        match how:
            case "abandoned":
                self.probing = False
            case "well" if self.opened is not None:
                self.turn(None)
            case "badly" if self.opened is not None:
                self.turn(self.now)
            case _:
                self.heard.append((self.now, how == "badly"))
                last = [bad for at, bad in self.heard if self.now - at <= 10][-100:]
                if how == "badly" and len(last) >= 20 and sum(last) >= len(last) / 2:
                    self.turn(self.now)

    def turn(self, opened: float | None) -> None:
        self.heard, self.opened, self.probing = [], opened, False
        self.turns += 1

    @rule(seconds=st.sampled_from([0.125, 0.875, 1.0, 5.0, 10.0, 10.125]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(calls=st.integers(1, 3))
    def begin(self, calls: int) -> None:
        for _ in range(calls):
            self.admit()

    @rule(which=st.integers(0, 9), how=st.sampled_from(["well", "badly", "abandoned"]))
    def come_back(self, which: int, how: str) -> None:
        if self.asked:
            self.end(which % len(self.asked), how)

    @rule(calls=st.integers(1, 60), how=st.sampled_from(["well", "badly"]))
    def come_and_go(self, calls: int, how: str) -> None:
        for _ in range(calls):
            before = len(self.asked)
            self.admit()
            if len(self.asked) > before:
                self.end(-1, how)

    @invariant()
    def both_agree(self) -> None:
        state, retry_after = "closed", 0.0
        if self.opened is not None:
            left = 1 - (self.now - self.opened)
            state = "open" if left > 0 else "half_open"
            retry_after = left if left > 0 else 1.0 if self.probing else 0.0
        assert self.breaker.state(self.now) == state
        assert self.breaker.retry_after(self.now) == retry_after


def test_whatever_happens_it_does_as_a_naive_one_does() -> None:
    run_state_machine_as_test(BesideANaiveOne)


# The layer


@pytest.fixture
def events() -> list[Event]:
    return []


def turns(events: list[Event]) -> list[Event]:
    """That it may be tried again follows from the clock, and may be events or not."""
    return [one for one in events if one != BreakerStateChanged("posts", 7, "half_open")]


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


async def test_an_open_circuit_ends_the_call_at_once_without_asking() -> None:
    upstream, breaker = FakeUpstream(), an_open_breaker()
    await asyncio.sleep(0.25)
    refusal = await result_or_error(protected(upstream, breaker)(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert refusal.retry_after == 0.75
    assert (upstream.began, now()) == ([], 0.25)


async def test_who_meets_the_probe_may_come_back_in_a_second() -> None:
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
async def test_a_probe_that_ends_so_leaves_the_circuit(
    events: list[Event], failure: Exception, state: State
) -> None:
    """Blamed on the mirror: open. An answer, if not a welcome one: closed. Neither: no change."""
    breaker, upstream = an_open_breaker(), FakeUpstream(0, failure)
    await asyncio.sleep(1)
    assert await result_or_error(protected(upstream, breaker, events)(a_call())) is failure
    assert breaker.state(now()) == state
    assert turns(events) == (
        [] if state == "half_open" else [BreakerStateChanged("posts", 7, state)]
    )
    assert (breaker.try_acquire(now()) is None) is (state == "open")


@pytest.mark.parametrize(("allotted", "state"), [(0.1, "open"), (0.08, "half_open")])
async def test_what_most_attempts_need_is_a_fair_time(allotted: float, state: State) -> None:
    breaker, latency = an_open_breaker(), Latency()
    for _ in range(20):
        latency.add(0.1)
    await asyncio.sleep(1)
    await result_or_error(
        protected(FakeUpstream(0, Timeout("late", allotted=allotted)), breaker, latency=latency)(
            a_call()
        )
    )
    assert breaker.state(now()) == state


async def test_the_attempt_timeout_is_a_fair_time_however_slow_the_mirror_is() -> None:
    breaker, latency = an_open_breaker(), Latency()
    for _ in range(20):
        latency.add(5.0)
    await asyncio.sleep(1)
    upstream = FakeUpstream(0, Timeout("late", allotted=0.8))
    await result_or_error(protected(upstream, breaker, latency=latency)(a_call()))
    assert breaker.state(now()) == "open"


@given(st.floats(0, 1e7), st.floats(0.01, 10))
def test_who_had_the_whole_attempt_timeout_is_to_blame_whatever_the_time_is(
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
async def test_what_tells_nothing_of_the_mirror_counts_neither_way(end: str) -> None:
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


async def test_a_cancelled_probe_frees_the_place_for_the_next() -> None:
    breaker, hanging, well = an_open_breaker(), FakeUpstream(seconds=60), FakeUpstream()
    await asyncio.sleep(1)
    probe = asyncio.ensure_future(protected(hanging, breaker)(a_call()))
    await asyncio.sleep(0.1)
    assert isinstance(await result_or_error(protected(well, breaker)(a_call())), CircuitOpen)
    probe.cancel()
    await asyncio.wait([probe])
    assert (probe.cancelled(), breaker.state(now())) == (True, "half_open")
    await protected(well, breaker)(a_call())
    assert (breaker.state(now()), len(well.began)) == ("closed", 1)


async def test_of_a_hundred_waiting_calls_exactly_one_goes_through_when_it_is_half_open() -> None:
    upstream = FakeUpstream(seconds=0.1)
    fetch = protected(upstream, an_open_breaker())
    await asyncio.sleep(1)
    ends = await asyncio.gather(*(result_or_error(fetch(a_call())) for _ in range(100)))
    assert upstream.began == [1.0]
    assert [type(end) for end in ends] == [Answer, *[CircuitOpen] * 99]


async def test_a_good_call_leaves_a_closed_circuit_alone(events: list[Event]) -> None:
    breaker = Breaker()
    for _ in range(3):
        assert isinstance(await protected(FakeUpstream(), breaker, events)(a_call()), Answer)
    assert (breaker.state(now()), events) == ("closed", [])


async def test_it_is_told_when_the_circuit_opens_stays_open_and_closes(events: list[Event]) -> None:
    breaker = Breaker()
    broken, well = (
        protected(upstream, breaker, events)
        for upstream in (FakeUpstream(0, BROKEN), FakeUpstream())
    )
    for _ in range(19):
        await result_or_error(broken(a_call()))
    assert events == []
    for _ in range(3):  # the twentieth, and two that meet the open circuit
        await result_or_error(broken(a_call()))
    assert turns(events) == [BreakerStateChanged("posts", 7, "open")]
    await asyncio.sleep(1)
    await result_or_error(broken(a_call()))
    assert turns(events) == [BreakerStateChanged("posts", 7, "open")] * 2
    await asyncio.sleep(1)
    await well(a_call())
    assert turns(events) == [
        BreakerStateChanged("posts", 7, "open"),
        BreakerStateChanged("posts", 7, "open"),
        BreakerStateChanged("posts", 7, "closed"),
    ]


@pytest.mark.parametrize("failure", [BROKEN, Overloaded("no capacity"), UpstreamStatus(400)])
async def test_those_that_were_in_flight_when_it_opened_do_not_tell_it_again(
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
    assert events == [BreakerStateChanged("posts", 7, "open")]
