import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.resilience.breaker import Breaker, Permit, State
from tests.resilience.states import an_open_breaker, fail, succeed


@pytest.mark.parametrize(
    ("successes", "failures"), [(0, 20), (1, 19), (10, 10), (15, 15), (20, 20), (1000, 20)]
)
def test_breaker_opens_when_the_last_twenty_results_failed_or_half_of_them(
    successes: int, failures: int
) -> None:
    breaker = Breaker()
    succeed(breaker, successes)
    fail(breaker, failures - 1)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 1)
    assert breaker.state(0.0) == "open"


@pytest.mark.parametrize(("pause", "state"), [(10.0, "open"), (10.01, "closed")])
def test_breaker_forgets_results_older_than_ten_seconds(pause: float, state: State) -> None:
    breaker = Breaker()
    fail(breaker, 19)
    fail(breaker, 1, at=pause)
    assert breaker.state(pause) == state


def test_breaker_stays_open_for_a_second_and_then_lets_one_probe_through() -> None:
    breaker = an_open_breaker(at=5.0)
    assert (breaker.try_acquire(5.0), breaker.try_acquire(5.999)) == (None, None)
    assert (breaker.retry_after(5.0), breaker.retry_after(5.75)) == (1.0, 0.25)
    assert (breaker.state(5.999), breaker.state(6.0)) == ("open", "half_open")
    assert breaker.retry_after(6.0) == 0.0
    assert breaker.try_acquire(6.0) is not None
    assert (breaker.try_acquire(6.0), breaker.try_acquire(60.0)) == (None, None)
    assert breaker.retry_after(6.0) == 1.0


def test_breaker_opens_after_a_failed_probe_and_closes_without_results_after_a_good_one() -> None:
    breaker = an_open_breaker()
    fail(breaker, 1, at=1.0)
    assert (breaker.state(1.999), breaker.state(2.0)) == ("open", "half_open")
    succeed(breaker, 1, at=2.0)
    assert breaker.state(2.0) == "closed"
    fail(breaker, 19, at=2.0)
    assert breaker.state(2.0) == "closed"


def test_breaker_is_open_for_a_second_since_the_failed_probe_was_sent() -> None:
    breaker = an_open_breaker()
    probe = breaker.try_acquire(1.0)
    assert probe is not None
    assert breaker.on_failure(probe, 1.75) == "open"
    assert (breaker.retry_after(1.75), breaker.state(2.0)) == (0.25, "half_open")


def test_breaker_does_not_count_results_of_an_older_generation() -> None:
    breaker = Breaker()
    early = [breaker.try_acquire(0.0) for _ in range(60)]
    fail(breaker, 20)
    probe = breaker.try_acquire(1.0)
    assert probe is not None
    for permit in early:
        assert permit is not None
        breaker.on_success(permit, 1.0)
        breaker.on_failure(permit, 1.0)
        breaker.on_ignored(permit)
    assert breaker.state(1.0) == "half_open"
    assert breaker.try_acquire(1.0) is None  # none of them was the probe
    breaker.on_success(probe, 1.0)
    assert breaker.state(1.0) == "closed"


def test_breaker_lets_the_next_probe_through_after_one_that_is_ignored() -> None:
    breaker = an_open_breaker()
    probe = breaker.try_acquire(1.0)
    assert probe is not None
    breaker.on_ignored(probe)
    assert breaker.state(1.0) == "half_open"
    assert breaker.try_acquire(1.0) is not None
    assert breaker.try_acquire(1.0) is None


def test_breaker_lets_one_suspect_a_second_through_beside_the_probe_of_the_others() -> None:
    breaker = an_open_breaker()
    assert breaker.try_acquire(0.999, suspect=True) is None
    suspect, probe = breaker.try_acquire(1.0, suspect=True), breaker.try_acquire(1.0)
    assert suspect is not None
    assert probe is not None
    assert (suspect.suspect, probe.suspect) == (True, False)
    assert breaker.try_acquire(1.999, suspect=True) is None
    assert breaker.try_acquire(2.0, suspect=True) is not None


def test_breaker_closes_after_a_good_suspect_and_stays_half_open_after_one_that_fails() -> None:
    breaker = an_open_breaker()
    suspect, probe = breaker.try_acquire(1.0, suspect=True), breaker.try_acquire(1.0)
    assert suspect is not None
    assert probe is not None
    assert breaker.on_failure(suspect, 1.5) is None
    breaker.on_ignored(suspect)
    assert breaker.state(1.5) == "half_open"
    assert breaker.try_acquire(1.5) is None  # the probe of the others is still under way
    again = breaker.try_acquire(2.0, suspect=True)
    assert again is not None
    assert breaker.on_success(again, 2.0) == "closed"


def test_breaker_permit_says_whether_it_is_that_of_a_probe() -> None:
    permits = Breaker().try_acquire(0.0), an_open_breaker().try_acquire(1.0)
    assert [permit and permit.probe for permit in permits] == [False, True]


@pytest.mark.parametrize(("alternative", "state"), [(True, "open"), (False, "closed")])
def test_breaker_opens_after_three_failures_in_a_row_only_where_there_is_an_alternative(
    alternative: bool, state: State
) -> None:
    breaker = Breaker()
    fail(breaker, 2, alternative=alternative)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 1, alternative=alternative)
    assert breaker.state(0.0) == state


def test_breaker_counts_failures_in_a_row_whatever_the_time_between_them() -> None:
    """At night, three calls may be minutes apart."""
    breaker = Breaker()
    for at in (0.0, 600.0, 1200.0):
        fail(breaker, 1, at, alternative=True)
    assert breaker.state(1200.0) == "open"


def test_breaker_begins_to_count_failures_in_a_row_anew_after_a_success_and_after_a_probe() -> None:
    breaker = Breaker()
    for _ in range(5):
        fail(breaker, 2, alternative=True)
        succeed(breaker, 1)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 3, alternative=True)
    succeed(breaker, 1, at=1.0)
    fail(breaker, 2, at=1.0, alternative=True)
    assert breaker.state(1.0) == "closed"


def test_breaker_counts_failures_in_a_row_that_were_seen_while_there_was_no_alternative() -> None:
    breaker = Breaker()
    fail(breaker, 10)
    assert breaker.state(0.0) == "closed"
    fail(breaker, 1, alternative=True)
    assert breaker.state(0.0) == "open"


RESULTS = st.sampled_from(["success", "failure", "failure with an alternative", "ignored"])


class BreakerAndReference(RuleBasedStateMachine):
    """A breaker beside a naive one. All times are exact in binary, so that both round alike."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.now = Breaker(), 1000.0
        # The reference: all results of its generation, and the calls in flight.
        self.results: list[tuple[float, bool]] = []
        self.opened: float | None = None
        self.generation = 0
        self.probing = False
        self.probed = self.suspected = 0.0
        self.in_flight: list[tuple[Permit, int]] = []
        """The breaker's permit of each call, and the reference's generation."""

    def acquire(self, suspect: bool = False) -> None:
        is_open = self.opened is not None
        under_way = self.now - self.suspected < 1 if suspect else self.probing
        refused = self.opened is not None and (self.now - self.opened < 1 or under_way)
        permit = self.breaker.try_acquire(self.now, suspect=suspect)
        assert (permit is None) is refused
        if permit is not None:
            assert (permit.probe, permit.suspect) == (is_open, is_open and suspect)
            self.probing = self.probing or (is_open and not suspect)
            self.probed = self.now if is_open and not suspect else self.probed
            self.suspected = self.now if is_open and suspect else self.suspected
            self.in_flight.append((permit, self.generation))

    def complete(self, index: int, result: str) -> None:
        permit, reference_generation = self.in_flight.pop(index)
        alternative = result == "failure with an alternative"
        match result:
            case "success":
                self.breaker.on_success(permit, self.now)
            case "ignored":
                self.breaker.on_ignored(permit)
            case _:
                self.breaker.on_failure(permit, self.now, alternative=alternative)
        if reference_generation != self.generation:
            return
        match result:
            case "ignored":
                self.probing = self.probing and permit.suspect
            case "success" if self.opened is not None:
                self.to_new_generation(None)
            case _ if permit.suspect:
                pass
            case _ if self.opened is not None:
                self.to_new_generation(self.probed)
            case "success":
                self.results.append((self.now, False))
            case _:
                self.results.append((self.now, True))
                last = [failed for at, failed in self.results if self.now - at <= 10][-100:]
                half = len(last) >= 20 and sum(last) >= len(last) / 2
                three = [failed for _, failed in self.results[-3:]] == [True] * 3
                if half or last[-20:] == [True] * 20 or (alternative and three):
                    self.to_new_generation(self.now)

    def to_new_generation(self, opened: float | None) -> None:
        self.results, self.opened, self.probing = [], opened, False
        self.generation += 1

    @rule(seconds=st.sampled_from([0.125, 0.875, 1.0, 5.0, 10.0, 10.125]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(calls=st.integers(1, 3), suspect=st.booleans())
    def begin(self, calls: int, suspect: bool) -> None:
        for _ in range(calls):
            self.acquire(suspect)

    @rule(index=st.integers(0, 9), result=RESULTS)
    def end(self, index: int, result: str) -> None:
        if self.in_flight:
            self.complete(index % len(self.in_flight), result)

    @rule(calls=st.integers(1, 60), result=RESULTS)
    def begin_and_end(self, calls: int, result: str) -> None:
        for _ in range(calls):
            before = len(self.in_flight)
            self.acquire()
            if len(self.in_flight) > before:
                self.complete(-1, result)

    @invariant()
    def both_agree(self) -> None:
        state, retry_after = "closed", 0.0
        if self.opened is not None:
            left = 1 - (self.now - self.opened)
            state = "open" if left > 0 else "half_open"
            retry_after = left if left > 0 else 1.0 if self.probing else 0.0
        assert self.breaker.state(self.now) == state
        assert self.breaker.retry_after(self.now) == retry_after


def test_breaker_agrees_with_a_naive_reference() -> None:
    run_state_machine_as_test(BreakerAndReference)
