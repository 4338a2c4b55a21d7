from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.resilience.latency import Latency
from tests.resilience.states import Clock

WINDOW_SECONDS = 25.0


def latency_after(*answers: float, clock: Clock | None = None) -> Latency:
    latency = Latency(clock or Clock())
    for seconds in answers:
        latency.add(seconds)
    return latency


def percentiles(answers: Sequence[float]) -> tuple[float, float]:
    """The median of the last 32, and the 95th percentile of the last 128, but not below it."""
    recent, last = sorted(answers[-32:]), sorted(answers[-128:])
    median = recent[len(recent) // 2]
    return median, max(last[len(last) * 95 // 100], median)


def test_latency_is_unknown_before_the_twentieth_answer() -> None:
    latency = latency_after(*[1.0] * 19)
    assert (latency.p50, latency.p95, latency.unusual) == (None, None, None)
    assert (latency.typical_max, latency.baseline) == (0.0, 0.0)
    latency.add(1.0)
    assert (latency.p50, latency.p95, latency.unusual) == (1.0, 1.0, 2.0)
    assert (latency.typical_max, latency.baseline) == (1.0, 1.0)


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
    latency, attempts, recomputed = latency_after(), [1000.0 - n for n in range(512)], []
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
    latency = latency_after(*[1.0] * 9, *[2.0] * 11)
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
    latency = latency_after()
    for seconds in attempts:
        before = latency.baseline
        latency.add(seconds)
        if latency.p50 is None:
            assert latency.baseline == 0.0
        else:
            assert latency.baseline <= latency.p50
            assert latency.baseline <= before * 1.002 or not before


# What is forgotten


@pytest.mark.parametrize("attribute", ["p50", "p95", "unusual"])
def test_latency_is_forgotten_25_seconds_after_the_last_answers(attribute: str) -> None:
    clock = Clock()
    latency = latency_after(*[1.0] * 20, clock=clock)
    clock.now = WINDOW_SECONDS - 0.001
    assert getattr(latency, attribute) is not None
    clock.now = WINDOW_SECONDS
    assert getattr(latency, attribute) is None
    assert latency.typical_max == 0.0


def test_latency_that_was_forgotten_is_known_again_after_twenty_answers() -> None:
    clock = Clock()
    latency = latency_after(*[1.0] * 128, clock=clock)
    clock.now = WINDOW_SECONDS
    for _ in range(19):
        latency.add(0.1)
        assert latency.p50 is None
    latency.add(0.1)
    assert (latency.p50, latency.p95, latency.unusual) == (0.1, 0.1, 0.2)


def test_latency_of_a_slow_spell_is_over_in_the_median_after_32_answers_that_are_good() -> None:
    latency = latency_after(*[0.7] * 128, *[0.02] * 40)
    assert (latency.p50, latency.typical_max) == (0.02, 0.04)
    assert latency.p95 == 0.7  # of the whole window, which has many of the slow ones still


def test_latency_at_one_answer_a_second_has_percentiles() -> None:
    clock = Clock()
    latency = latency_after(clock=clock)
    for second in range(60):
        clock.now = float(second)
        latency.add(1.0)
        assert (latency.p50 == 1.0) is (second >= 19)


def test_latency_unusual_is_twice_the_slowest_answer_of_the_window() -> None:
    assert latency_after(0.3, *[0.01] * 127).unusual == 0.6
    assert latency_after(0.3, *[0.01] * 136).unusual == 0.02  # taken anew by then


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.125, 1.0, 9.0]), st.floats(0, 2)), max_size=400)
)
def test_latency_agrees_with_a_naive_reference_that_forgets_by_number_and_by_age(
    answers: Sequence[tuple[float, float]],
) -> None:
    """What is known was the truth at one of the last answers, a sixteenth of the window at most."""
    clock = Clock()
    latency, reference = latency_after(clock=clock), list[tuple[float, float]]()
    recent: list[tuple[float, tuple[float, float, float]]] = []
    for pause, seconds in answers:
        clock.now += pause
        if recent and clock.now < recent[0][0] + WINDOW_SECONDS:
            assert latency.p50 is not None
        if not recent or clock.now >= recent[-1][0] + WINDOW_SECONDS:
            assert (latency.p50, latency.p95, latency.unusual) == (None, None, None)
        latency.add(seconds)
        reference.append((clock.now, seconds))
        window = [one for at, one in reference if at > clock.now - WINDOW_SECONDS][-128:]
        if len(window) >= 20:
            truth = (*percentiles(window), 2 * max(window))
            recent = [*recent[-7:], (clock.now, truth)]
        if latency.p50 is not None:
            known = latency.p50, latency.p95, latency.unusual
            assert known in [truth for _, truth in recent]
