import asyncio
from collections.abc import Sequence
from dataclasses import replace
from heapq import heapreplace
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Admission, Answer, Call, Fetch
from app.errors import Overloaded, Timeout
from app.resilience.aimd import AdaptiveLimit
from app.resilience.bulkhead import Bulkhead
from app.resilience.latency import Latency
from app.resilience.layers.limit import limit
from app.resilience.layers.shed import shed
from app.resilience.layers.timeout import timeout
from tests.fakes import a_call, a_context, an_answer, now, on_virtual_time, result_or_error
from tests.resilience.states import a_latency


def an_adaptive_limit(
    ceiling: int = 64, *, baseline: float = 0.02, attempt_timeout: float = 0.8
) -> AdaptiveLimit:
    return AdaptiveLimit(ceiling, a_latency(baseline), attempt_timeout)


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
    adaptive, time, last_decrease = an_adaptive_limit(ceiling, baseline=baseline), 0.0, -inf
    for pause, seconds, in_flight in attempts:
        time += pause
        before = adaptive.limit
        sample(adaptive, time - seconds, time, in_flight)
        assert min(4, ceiling) <= adaptive.limit <= ceiling
        if adaptive.limit != before:
            assert 2 * in_flight >= before
        if adaptive.limit < before:
            assert seconds >= 0.4
            assert time - seconds > last_decrease
            assert adaptive.limit >= int(before * 0.75)
            last_decrease = time
        elif adaptive.limit > before:
            assert adaptive.limit == before + 1
            assert seconds < 0.8


class QueueingServer:
    """A server with so many workers and a queue in front of them, and without timeouts.

    A call that is cancelled stays in the queue, and costs a worker its time.
    """

    def __init__(self, workers: int, seconds: float) -> None:
        self._free_at = [0.0] * workers
        self._seconds = seconds

    async def __call__(self, _: Call) -> Answer:
        end = max(now(), self._free_at[0]) + self._seconds
        heapreplace(self._free_at, end)
        await asyncio.sleep(end - now())
        return an_answer()


def measured(latency: Latency, fetch: Fetch) -> Fetch:
    """Add what attempts take to `latency`, by the virtual clock."""

    async def measuring(call: Call) -> Answer:
        began = now()
        try:
            answer = await fetch(call)
        except Timeout:
            latency.add_unfinished(now() - began)
            raise
        latency.add(now() - began)
        return answer

    return measuring


@pytest.mark.parametrize(
    ("workers", "seconds"),
    [
        (1, 0.02),  # 64 in flight would take 1.28 s each, and all would time out
        (2, 0.03),
        (8, 0.1),  # 64 in flight take as long as an attempt may
    ],
)
def test_adaptive_limit_and_shed_keep_an_upstream_at_capacity_under_three_times_the_load(
    workers: int, seconds: float
) -> None:
    capacity, duration, request_timeout = workers / seconds, 20.0, 2.0

    async def main() -> None:
        latency = Latency()
        bulkhead = Bulkhead(64, latency, 0.8)
        upstream = measured(latency, timeout(0.8)(QueueingServer(workers, seconds)))
        fetch = shed(lambda _: None)(limit(bulkhead, lambda _: None)(upstream))
        answers = max_queued = 0

        async def request(number: int) -> None:
            nonlocal answers, max_queued
            # Not evenly spaced: in step, every answer would arrive exactly at the deadline.
            await asyncio.sleep((number + number * 0.618 % 1) / (3 * capacity))
            deadline = now() + request_timeout
            # Admission is decided on arrival, as in the service.
            admission = Admission(lambda: [bulkhead.expected_wait()])
            result = await result_or_error(
                fetch(a_call(replace(a_context(deadline), admission=admission)))
            )
            assert isinstance(result, Answer | Timeout | Overloaded)
            assert now() <= deadline + 1e-6
            answers += isinstance(result, Answer) and now() <= duration
            max_queued = max(max_queued, bulkhead.queued)

        await asyncio.gather(*(request(n) for n in range(int(3 * capacity * duration))))
        assert answers >= 0.85 * capacity * duration
        assert max_queued <= 1.1 * capacity * request_timeout
        assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)

    on_virtual_time(main)
