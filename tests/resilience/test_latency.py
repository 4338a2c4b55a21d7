from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.latency import Latency


def latency_after(*attempts: float) -> Latency:
    latency = Latency()
    for seconds in attempts:
        latency.add(seconds)
    return latency


def percentiles(attempts: Sequence[float]) -> tuple[float, float]:
    """The median and the 95th percentile of the last 128."""
    last = sorted(attempts[-128:])
    return last[len(last) // 2], last[len(last) * 95 // 100]


def test_latency_is_unknown_before_the_twentieth_attempt() -> None:
    latency = latency_after(*[1.0] * 19)
    assert (latency.p50, latency.p95, latency.typical_max, latency.baseline) == (
        None,
        None,
        0.0,
        0.0,
    )
    latency.add(1.0)
    assert (latency.p50, latency.p95, latency.typical_max, latency.baseline) == (1.0, 1.0, 1.0, 1.0)


@given(
    st.lists(st.floats(0, 60), min_size=20, max_size=30),
    st.lists(st.floats(0, 60), max_size=400),
)
def test_latency_percentiles_are_never_older_than_a_sixteenth_of_the_window(
    first: Sequence[float], more: Sequence[float]
) -> None:
    attempts, latency = list(first[:20]), latency_after(*first[:20])
    for seconds in (*first[20:], *more):
        latency.add(seconds)
        attempts.append(seconds)
        max_age = -(-min(len(attempts), 128) // 16)
        recent = [percentiles(attempts[: len(attempts) - age]) for age in range(max_age)]
        assert (latency.p50, latency.p95) in recent


def test_latency_percentiles_are_recomputed_whenever_a_sixteenth_of_the_window_is_new() -> None:
    latency, attempts, recomputed = Latency(), [1000.0 - n for n in range(512)], []
    for count, seconds in enumerate(attempts, start=1):
        before = latency.p50
        latency.add(seconds)
        if latency.p50 != before:  # each attempt is faster than the last, so a new median differs
            recomputed.append(count)
            assert (latency.p50, latency.p95) == percentiles(attempts[:count])
    assert recomputed[:8] == [20, 22, 24, 26, 28, 30, 32, 35]
    with_full_window = [count for count in recomputed if count > 128]
    assert with_full_window == [*range(with_full_window[0], 513, 8)]


@pytest.mark.parametrize(
    ("median", "slowest", "typical_max"),
    [(1.0, 1.5, 1.5), (1.0, 2.0, 2.0), (1.0, 30.0, 2.0), (0.0, 1.0, 0.0)],
)
def test_latency_typical_max_is_the_p95_but_at_most_twice_the_median(
    median: float, slowest: float, typical_max: float
) -> None:
    assert latency_after(*[median] * 19, slowest).typical_max == typical_max


def test_latency_ignores_unfinished_attempts_while_it_is_unknown() -> None:
    latency = latency_after(*[1.0] * 19)
    for _ in range(100):
        latency.add_unfinished(60.0)
    assert latency.p50 is None
    latency.add(1.0)
    assert latency.p95 == 1.0


@given(
    st.lists(st.floats(0, 2), min_size=20, max_size=20),
    st.lists(st.tuples(st.booleans(), st.floats(0, 4)), max_size=200),
)
def test_latency_counts_an_unfinished_attempt_only_if_it_has_taken_the_median_or_more(
    first: Sequence[float], more: Sequence[tuple[bool, float]]
) -> None:
    latency, reference = latency_after(*first), latency_after(*first)
    for finished, seconds in more:
        (latency.add if finished else latency.add_unfinished)(seconds)
        if finished or seconds >= (reference.p50 or 0.0):
            reference.add(seconds)
        assert (latency.p50, latency.p95) == (reference.p50, reference.p95)


def test_latency_counts_an_attempt_that_was_cancelled_exactly_at_the_median() -> None:
    latency = latency_after(*[1.0] * 10, *[2.0] * 10)
    for _ in range(128):
        latency.add_unfinished(1.999)
    assert latency.p50 == 2.0
    latency = latency_after(*[1.0] * 19, 2.0)
    for _ in range(128):
        latency.add_unfinished(2.0)
    assert latency.p50 == 2.0


def test_latency_baseline_rises_slowly_and_falls_at_once() -> None:
    latency = latency_after(*[1.0] * 128)

    def baseline_after(attempts: int, seconds: float) -> float:
        for _ in range(attempts):
            latency.add(seconds)
        assert latency.p50 == seconds
        return latency.baseline

    assert 1.0 < baseline_after(128, 2.0) < 1.03
    assert 1.8 < baseline_after(2500, 2.0) < 2.0
    assert baseline_after(300, 2.0) == 2.0
    assert baseline_after(128, 1.0) == 1.0


@given(st.lists(st.floats(0, 60), max_size=400))
def test_latency_baseline_is_never_above_the_median_and_rises_by_at_most_its_drift(
    attempts: Sequence[float],
) -> None:
    latency = Latency()
    for seconds in attempts:
        before = latency.baseline
        latency.add(seconds)
        if latency.p50 is None:
            assert latency.baseline == 0.0
        else:
            assert latency.baseline <= latency.p50
            assert latency.baseline <= before * 1.002 or not before
