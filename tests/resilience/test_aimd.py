from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.aimd import AdaptiveLimit
from tests.resilience.states import Clock, a_latency


def an_adaptive_limit(
    ceiling: int = 64,
    *,
    baseline: float = 0.02,
    attempt_timeout: float = 0.8,
    time: Callable[[], float] | None = None,
) -> AdaptiveLimit:
    """By default no time passes since it fell, so that it changes by attempts alone."""
    adaptive = AdaptiveLimit(
        ceiling, a_latency(baseline), attempt_timeout, time or (lambda: adaptive._grown_at)
    )
    return adaptive


def sample(adaptive: AdaptiveLimit, began: float, now: float, in_flight: int) -> None:
    """An answered attempt, during which so many others were answered that any limit is bearable."""
    adaptive.on_sample(began, now, in_flight, answered=True, meanwhile=1000)


def sample_a_round(adaptive: AdaptiveLimit, began: float, seconds: float) -> int:
    """As many attempts as the limit allows begin and end together; the limit after them."""
    for _ in range(in_flight := adaptive.limit):
        sample(adaptive, began, began + seconds, in_flight)
    return adaptive.limit


def at_its_minimum(adaptive: AdaptiveLimit) -> AdaptiveLimit:
    for began in range(20):
        sample_a_round(adaptive, float(began), 0.8)
    return adaptive


def test_adaptive_limit_starts_at_its_ceiling() -> None:
    assert an_adaptive_limit(64).limit == 64


@pytest.mark.parametrize(
    ("ceiling", "limits"),
    [(64, [48, 36, 27, 20, 15, 11, 8, 6, 4, 4, 4]), (5, [4, 4]), (4, [4]), (3, [3]), (1, [1])],
)
def test_adaptive_limit_falls_once_for_each_round_of_late_attempts_down_to_four(
    ceiling: int, limits: list[int]
) -> None:
    adaptive = an_adaptive_limit(ceiling)
    assert [sample_a_round(adaptive, float(n), 0.8) for n in range(len(limits))] == limits


def test_adaptive_limit_falls_again_only_for_attempts_that_began_after_the_last_fall() -> None:
    adaptive = an_adaptive_limit(64)
    sample(adaptive, 0.0, 0.5, 64)
    for began in (0.1, 0.3, 0.5):
        sample(adaptive, began, began + 0.5, 64)
    assert adaptive.limit == 48
    sample(adaptive, 0.501, 1.001, 64)
    assert adaptive.limit == 36


@pytest.mark.parametrize(
    ("baseline", "late_after"),
    [
        (0.02, 0.4),  # half of the timeout
        (0.2, 0.4),
        (0.3, 0.6),  # twice the baseline
        (0.6, 0.792),  # an attempt that timed out is late, whatever the baseline is
    ],
)
def test_adaptive_limit_counts_an_attempt_as_late_by_timeout_and_latency_baseline(
    baseline: float, late_after: float
) -> None:
    adaptive = an_adaptive_limit(baseline=baseline)
    sample(adaptive, 0.0, late_after - 1e-9, 64)
    assert adaptive.limit == 64
    sample(adaptive, 0.0, late_after, 64)
    assert adaptive.limit == 48


@pytest.mark.parametrize(
    ("meanwhile", "seconds", "expected"), [(40, 0.4, 40), (40, 0.8, 20), (60, 0.4, 48), (1, 0.4, 4)]
)
def test_adaptive_limit_falls_to_what_was_answered_in_the_time_that_an_attempt_may_take(
    meanwhile: int, seconds: float, expected: int
) -> None:
    adaptive = an_adaptive_limit(64)
    adaptive.on_sample(0.0, seconds, 64, answered=False, meanwhile=meanwhile)
    assert adaptive.limit == expected


@pytest.mark.parametrize(("meanwhile", "limits"), [(0, [8, 16, 32, 32]), (1, [4, 5, 6, 7])])
def test_adaptive_limit_grows_with_each_answer_up_to_half_after_a_silence(
    meanwhile: int, limits: list[int]
) -> None:
    adaptive = an_adaptive_limit(64)
    adaptive.on_sample(0.0, 0.8, 64, answered=False, meanwhile=meanwhile)
    assert adaptive.limit == 4
    assert [sample_a_round(adaptive, float(began), 0.01) for began in (1, 2, 3, 4)] == limits


def test_adaptive_limit_grows_only_with_an_answer() -> None:
    adaptive = at_its_minimum(an_adaptive_limit())
    for _ in range(20):
        adaptive.on_sample(30.0, 30.1, 64, answered=False, meanwhile=5)
    assert adaptive.limit == 4
    sample_a_round(adaptive, 30.0, 0.1)
    assert sample_a_round(adaptive, 30.0, 0.1) == 5


def test_adaptive_limit_does_not_fall_without_a_timeout() -> None:
    assert sample_a_round(an_adaptive_limit(attempt_timeout=inf), 0.0, 1e9) == 64


def test_adaptive_limit_does_not_fall_for_an_upstream_that_is_always_slow() -> None:
    adaptive = an_adaptive_limit(baseline=0.7)
    assert [sample_a_round(adaptive, float(began), 0.75) for began in range(5)] == [64] * 5


def test_adaptive_limit_grows_by_one_for_each_round_of_attempts_up_to_its_ceiling() -> None:
    adaptive = at_its_minimum(an_adaptive_limit(16))
    limits = [4] + [sample_a_round(adaptive, 30.0 + n, 0.1) for n in range(40)]
    assert {after - before for before, after in pairwise(limits)} <= {0, 1}
    assert limits[10] >= 12  # a little less than one a round, which has grown meanwhile
    assert limits[-1] == 16


@pytest.mark.parametrize(("in_flight", "changes"), [(1, False), (2, True), (4, True)])
def test_adaptive_limit_does_not_change_while_most_permits_are_idle(
    in_flight: int, changes: bool
) -> None:
    adaptive = at_its_minimum(an_adaptive_limit())
    for _ in range(5):
        sample(adaptive, 30.0, 30.1, in_flight)
    assert adaptive.limit == 4 + changes
    adaptive = an_adaptive_limit(4 * 16)
    sample(adaptive, 0.0, 0.8, in_flight * 16)
    assert adaptive.limit == (48 if changes else 64)


@pytest.mark.parametrize(
    ("ceiling", "limits"),
    [(64, [4, 9, 16, 29, 55, 64]), (10, [4, 4, 6, 8, 10, 10]), (2, [2] * 6)],
)
def test_adaptive_limit_grows_to_its_ceiling_in_twenty_five_seconds_without_traffic(
    ceiling: int, limits: Sequence[int]
) -> None:
    clock = Clock()
    adaptive = an_adaptive_limit(ceiling, time=clock)
    adaptive.on_sample(-0.8, 0.0, 64, answered=False, meanwhile=1)
    for clock.now, expected in zip((0.0, 2.0, 5.001, 10.001, 20.001, 3600.0), limits, strict=True):
        assert adaptive.limit == expected


def test_adaptive_limit_is_at_its_ceiling_after_a_quiet_night() -> None:
    clock = Clock()
    adaptive = an_adaptive_limit(time=clock)
    adaptive.on_sample(-0.8, 0.0, 64, answered=False, meanwhile=1)
    clock.now = 8 * 3600.0
    assert adaptive.limit == 64


def test_adaptive_limit_grows_with_time_only_since_it_fell_for_the_last_time() -> None:
    clock = Clock()
    adaptive = an_adaptive_limit(64, time=clock)
    clock.now = 1000.0
    sample(adaptive, 999.0, 1000.0, 64)
    assert adaptive.limit == 48
    clock.now = 1002.0
    assert adaptive.limit == int(48 + 2 * 64 / 25)
    sample(adaptive, 1001.0, 1002.0, 64)
    assert adaptive.limit == int((48 + 2 * 64 / 25) * 0.75)


@pytest.mark.parametrize("limits", [(8, 64), (4, 20), (24, 40)])
def test_adaptive_limits_of_one_overloaded_server_become_equal(limits: tuple[int, int]) -> None:
    """Three sections of an answer, say: those of the lower limit would be missing for ever."""
    clock, capacity = Clock(), 100.0
    pair = [an_adaptive_limit(64, time=clock) for _ in limits]
    for adaptive, limit in zip(pair, limits, strict=True):
        adaptive._exact = float(limit)
    for _ in range(40):
        # By Little's law: what is in flight, over what the server can do in a second.
        seconds = sum(adaptive.limit for adaptive in pair) / capacity
        clock.now += seconds
        for adaptive in pair:
            sample_a_round(adaptive, clock.now - seconds, seconds)
    assert abs(pair[0].limit - pair[1].limit) <= 3


def test_adaptive_limit_that_is_overloaded_all_the_time_falls_though_it_grows_with_time() -> None:
    clock, limits = Clock(), []
    adaptive = an_adaptive_limit(64, time=clock)
    for n in range(20):
        clock.now = n * 0.801
        limits.append(sample_a_round(adaptive, clock.now - 0.8, 0.8))
    assert limits[:4] == [48, 37, 29, 23]
    assert limits[-1] <= 8


@given(
    st.integers(1, 100),
    st.floats(0.001, 2),
    st.lists(
        st.tuples(st.floats(0, 3), st.floats(0, 2), st.integers(1, 100)), min_size=1, max_size=100
    ),
)
def test_adaptive_limit_stays_within_its_bounds_and_moves_by_its_steps(
    ceiling: int, baseline: float, attempts: Sequence[tuple[float, float, int]]
) -> None:
    clock, last_decrease = Clock(), -inf
    adaptive = an_adaptive_limit(ceiling, baseline=baseline, time=clock)
    for pause, seconds, in_flight in attempts:
        earlier = adaptive.limit
        clock.now += pause
        before = adaptive.limit
        assert earlier <= before <= min(earlier + 1 + ceiling * pause / 25, ceiling)
        sample(adaptive, clock.now - seconds, clock.now, in_flight)
        assert min(4, ceiling) <= adaptive.limit <= ceiling
        if adaptive.limit != before:
            assert 2 * in_flight >= before
        if adaptive.limit < before:
            assert seconds >= 0.4
            assert clock.now - seconds > last_decrease
            assert adaptive.limit >= int(before * 0.75)
            last_decrease = clock.now
        elif adaptive.limit > before:
            assert adaptive.limit == before + 1
            assert seconds < 0.8
