from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.latency import Latency


def after(*seconds: float) -> Latency:
    latency = Latency()
    for each in seconds:
        latency.add(each)
    return latency


def percentiles(attempts: Sequence[float]) -> tuple[float, float]:
    """Of the last 128: half of them are below the first, nineteen in twenty below the second."""
    last = sorted(attempts[-128:])
    return last[len(last) // 2], last[len(last) * 95 // 100]


def test_nothing_is_known_before_the_twentieth_attempt() -> None:
    latency = after(*[1.0] * 19)
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
def test_percentiles_are_never_older_than_a_sixteenth_of_the_window(
    first: Sequence[float], more: Sequence[float]
) -> None:
    attempts, latency = list(first[:20]), after(*first[:20])
    for seconds in (*first[20:], *more):
        latency.add(seconds)
        attempts.append(seconds)
        late = -(-min(len(attempts), 128) // 16)
        recently = [percentiles(attempts[: len(attempts) - ago]) for ago in range(late)]
        assert (latency.p50, latency.p95) in recently


def test_percentiles_are_taken_anew_each_time_a_sixteenth_of_the_window_is() -> None:
    latency, attempts, moments = Latency(), [1000.0 - n for n in range(512)], []
    for number, seconds in enumerate(attempts, start=1):
        before = latency.p50
        latency.add(seconds)
        if latency.p50 != before:  # each attempt is faster than the last: every look shows
            moments.append(number)
            assert (latency.p50, latency.p95) == percentiles(attempts[:number])
    assert moments[:8] == [20, 22, 24, 26, 28, 30, 32, 35]
    late = [moment for moment in moments if moment > 128]
    assert late == [*range(late[0], 513, 8)]


@pytest.mark.parametrize(
    ("median", "slowest", "most"),
    [(1.0, 1.5, 1.5), (1.0, 2.0, 2.0), (1.0, 30.0, 2.0), (0.0, 1.0, 0.0)],
)
def test_most_get_by_with_the_p95_or_twice_the_median(
    median: float, slowest: float, most: float
) -> None:
    assert after(*[median] * 19, slowest).typical_max == most


def test_an_unfinished_attempt_says_nothing_while_nothing_is_known() -> None:
    latency = after(*[1.0] * 19)
    for _ in range(100):
        latency.add_unfinished(60.0)
    assert latency.p50 is None
    latency.add(1.0)
    assert latency.p95 == 1.0


@given(
    st.lists(st.floats(0, 2), min_size=20, max_size=20),
    st.lists(st.tuples(st.booleans(), st.floats(0, 4)), max_size=200),
)
def test_an_unfinished_attempt_counts_from_the_median_on_and_else_not_at_all(
    first: Sequence[float], then: Sequence[tuple[bool, float]]
) -> None:
    latency, reference = after(*first), after(*first)
    for finished, seconds in then:
        (latency.add if finished else latency.add_unfinished)(seconds)
        if finished or seconds >= (reference.p50 or 0.0):
            reference.add(seconds)
        assert (latency.p50, latency.p95) == (reference.p50, reference.p95)


def test_one_that_was_given_up_at_the_median_counts() -> None:
    latency = after(*[1.0] * 10, *[2.0] * 10)
    for _ in range(128):
        latency.add_unfinished(1.999)
    assert latency.p50 == 2.0
    latency = after(*[1.0] * 19, 2.0)
    for _ in range(128):
        latency.add_unfinished(2.0)
    assert latency.p50 == 2.0


def test_the_usual_gives_way_slowly_and_comes_back_at_once() -> None:
    latency = after(*[1.0] * 128)

    def usual_after(attempts: int, seconds: float) -> float:
        for _ in range(attempts):
            latency.add(seconds)
        assert latency.p50 == seconds
        return latency.baseline

    assert 1.0 < usual_after(128, 2.0) < 1.03
    assert 1.8 < usual_after(2500, 2.0) < 2.0
    assert usual_after(300, 2.0) == 2.0
    assert usual_after(128, 1.0) == 1.0


@given(st.lists(st.floats(0, 60), max_size=400))
def test_the_usual_is_never_above_the_median_nor_grows_faster_than_it_may(
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
