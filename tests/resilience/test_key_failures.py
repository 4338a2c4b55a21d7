import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from app.call import Data, Key
from app.resilience.key_failures import KeyFailures

KEYS: list[Key] = [("posts", f"/{number}", Data, ()) for number in range(3)]
KEY, OTHER, _ = KEYS


def counted(failures: KeyFailures, times: int, at: float = 0.0, key: Key = KEY) -> list[bool]:
    """Which of so many failures of the key count for others."""
    return [failures.on_failure(key, at) for _ in range(times)]


def test_key_failures_count_for_others_three_times_in_ten_seconds() -> None:
    failures = KeyFailures()
    assert counted(failures, 5) == [True, True, True, False, False]
    assert counted(failures, 2, at=9.999) == [False, False]
    assert counted(failures, 5, at=10.0) == [True, True, True, False, False]


def test_key_failures_that_count_are_three_in_any_ten_seconds() -> None:
    failures = KeyFailures()
    times = [n / 4 for n in range(400)]
    ones = [at for at in times if failures.on_failure(KEY, at)]
    assert all(later - earlier >= 10 for earlier, later in zip(ones, ones[3:], strict=False))
    assert len(ones) >= 3 * 100 / 10


def test_key_failures_of_one_key_leave_the_others_alone() -> None:
    failures = KeyFailures()
    counted(failures, 9)
    assert counted(failures, 3, key=OTHER) == [True, True, True]
    assert [failures.is_spent(key, 0.0) for key in KEYS] == [True, True, False]
    assert [failures.is_quarantined(key) for key in KEYS] == [True, False, False]


def test_key_failures_that_have_counted_are_not_forgotten_by_a_success() -> None:
    """Else a key that fails every second time would count without end."""
    failures = KeyFailures()
    for at in range(3):
        assert failures.on_failure(KEY, at)
        failures.on_success(KEY, at)
    assert failures.is_spent(KEY, 2)
    assert not failures.on_failure(KEY, 3)
    failures.on_success(KEY, 9.5)
    assert failures.is_spent(KEY, 9.5)
    assert not failures.is_spent(KEY, 10.0)


@pytest.mark.parametrize(("in_a_row", "quarantined"), [(5, False), (6, True), (7, True)])
def test_key_is_in_quarantine_after_six_failures_in_a_row(in_a_row: int, quarantined: bool) -> None:
    """One call alone, with its retries, is no pattern yet."""
    failures = KeyFailures()
    counted(failures, 5)
    failures.on_success(KEY, 0.0)
    counted(failures, in_a_row)
    assert failures.is_quarantined(KEY) is quarantined


def test_key_leaves_quarantine_by_its_first_success() -> None:
    failures = KeyFailures()
    counted(failures, 50)
    failures.on_success(KEY, 1.0)
    assert not failures.is_quarantined(KEY)


def test_key_in_quarantine_may_be_probed_once_a_second() -> None:
    failures = KeyFailures()
    counted(failures, 6)
    assert [failures.probe_after(KEY, at) for at in (0.0, 0.75)] == [1.0, 0.25]
    assert failures.probe_after(KEY, 1.5) == 0.0  # the caller is the probe
    assert [failures.probe_after(KEY, at) for at in (1.5, 2.0)] == [1.0, 0.5]
    counted(failures, 1, at=2.25)  # it has failed
    assert failures.probe_after(KEY, 2.5) == 0.75


def test_key_in_quarantine_may_be_probed_again_at_once_if_nobody_was_asked() -> None:
    failures = KeyFailures()
    counted(failures, 6)
    assert failures.probe_after(KEY, 1.0) == 0.0
    failures.on_nobody_asked(KEY)
    assert failures.probe_after(KEY, 1.0) == 0.0


@pytest.mark.parametrize(
    ("in_a_row", "counted_before", "extra"),
    [
        (0, 0, True),
        (1, 0, True),
        (2, 0, True),
        (3, 0, False),  # it has counted enough
        (6, 0, False),  # in quarantine
        (1, 3, True),  # it may be well on another mirror
        (2, 3, False),  # it fails on both, and has cost enough
    ],
)
def test_key_may_have_extra_attempts_unless_it_only_fails(
    in_a_row: int, counted_before: int, extra: bool
) -> None:
    failures = KeyFailures()
    counted(failures, counted_before)
    failures.on_success(KEY, 0.0)
    counted(failures, in_a_row)
    assert failures.may_have_extra(KEY, 0.0) is extra


@pytest.mark.parametrize(("in_a_row", "extra"), [(5, True), (6, False)])
def test_key_in_quarantine_has_no_extra_attempts_in_a_new_window_either(
    in_a_row: int, extra: bool
) -> None:
    failures = KeyFailures()
    counted(failures, in_a_row)
    assert not failures.is_spent(KEY, 60.0)
    assert failures.may_have_extra(KEY, 60.0) is extra


def test_key_failures_know_nothing_of_keys_that_never_failed() -> None:
    failures = KeyFailures()
    for _ in range(2):
        assert (failures.is_quarantined(KEY), failures.is_spent(KEY, 0.0)) == (False, False)
        assert failures.may_have_extra(KEY, 0.0)
        failures.on_success(KEY, 0.0)
        failures.on_nobody_asked(KEY)
        counted(failures, 3, key=OTHER)
    assert len(failures) == 1


def test_key_failures_are_forgotten_with_a_success_after_their_window() -> None:
    failures = KeyFailures()
    counted(failures, 1)
    failures.on_success(KEY, 9.999)
    assert len(failures) == 1
    failures.on_success(KEY, 10.0)
    assert len(failures) == 0


def test_key_failures_keep_4096_keys_and_forget_the_one_that_failed_longest_ago() -> None:
    """A client that invents keys must not fill our memory with them."""
    failures = KeyFailures()
    counted(failures, 6)
    for number in range(20_000):
        failures.on_failure(("posts", f"/invented/{number}", Data, ()), 0.0)
        if number < 5000:
            failures.on_failure(KEY, 0.0)
    assert len(failures) == 4096
    assert not failures.is_quarantined(KEY)
    assert failures.may_have_extra(KEY, 0.0)
    failures.on_nobody_asked(KEY)


def test_key_that_keeps_failing_is_not_forgotten_for_keys_that_fail_once() -> None:
    failures = KeyFailures()
    counted(failures, 6)
    for number in range(20_000):
        assert failures.is_quarantined(KEY)
        failures.on_failure(KEY, 0.0)
        failures.on_failure(("posts", f"/invented/{number}", Data, ()), 0.0)


class KeyFailuresAndReference(RuleBasedStateMachine):
    """Failures beside a naive reference: the whole history of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.failures, self.now = KeyFailures(), 1000.0
        self.counted: dict[Key, list[float]] = {key: [] for key in KEYS}
        self.in_a_row = dict.fromkeys(KEYS, 0)
        self.asked = dict.fromkeys(KEYS, float("-inf"))
        """When the key failed or was probed for the last time."""

    def spent(self, key: Key) -> bool:
        return sum(self.now - at < 10 for at in self.counted[key]) >= 3

    @rule(seconds=st.sampled_from([0.125, 0.875, 1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(key=st.sampled_from(KEYS), times=st.integers(1, 4))
    def fail(self, key: Key, times: int) -> None:
        for _ in range(times):
            counts = not self.spent(key)
            assert self.failures.on_failure(key, self.now) is counts
            self.counted[key] += [self.now] * counts
            self.in_a_row[key] += 1
            self.asked[key] = self.now

    @rule(key=st.sampled_from(KEYS))
    def succeed(self, key: Key) -> None:
        self.failures.on_success(key, self.now)
        self.in_a_row[key] = 0

    @rule(key=st.sampled_from(KEYS), asked=st.booleans())
    def probe(self, key: Key, asked: bool) -> None:
        if self.in_a_row[key] < 6:
            return
        wait = max(self.asked[key] + 1 - self.now, 0.0)
        assert self.failures.probe_after(key, self.now) == wait
        if wait == 0 and asked:
            self.asked[key] = self.now
        elif wait == 0:
            self.failures.on_nobody_asked(key)

    @invariant()
    def both_agree(self) -> None:
        for key in KEYS:
            in_a_row, spent = self.in_a_row[key], self.spent(key)
            assert self.failures.is_spent(key, self.now) is spent
            assert self.failures.is_quarantined(key) is (in_a_row >= 6)
            extra = in_a_row < 2 or (in_a_row < 6 and not spent)
            assert self.failures.may_have_extra(key, self.now) is extra


def test_key_failures_agree_with_a_naive_reference() -> None:
    run_state_machine_as_test(KeyFailuresAndReference)
