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


def a_limit(
    ceiling: int = 64, *, usual: float = 0.02, attempt_timeout: float = 0.8
) -> AdaptiveLimit:
    latency = Latency()
    for _ in range(20):
        latency.add(usual)
    return AdaptiveLimit(ceiling, latency, attempt_timeout)


def end(learnt: AdaptiveLimit, began: float, now: float, in_flight: int) -> None:
    """An attempt was answered, as so many others that they say nothing of what can be borne."""
    learnt.on_sample(began, now, in_flight, answered=True, meanwhile=1000)


def a_round(learnt: AdaptiveLimit, began: float, seconds: float) -> int:
    """As many attempts as there are permits begin and end together: the permits after that."""
    for _ in range(permits := learnt.limit):
        end(learnt, began, began + seconds, permits)
    return learnt.limit


def test_all_permits_are_there_at_first() -> None:
    assert a_limit(64).limit == 64


@pytest.mark.parametrize(
    ("ceiling", "permits"),
    [(64, [48, 36, 27, 20, 15, 11, 8, 6, 4, 4, 4]), (5, [4, 4]), (4, [4]), (3, [3]), (1, [1])],
)
def test_the_limit_falls_once_for_each_round_of_late_attempts_and_not_to_nothing(
    ceiling: int, permits: list[int]
) -> None:
    learnt = a_limit(ceiling)
    assert [a_round(learnt, float(number), 0.8) for number in range(len(permits))] == permits


def test_those_in_flight_at_a_fall_do_not_count_for_the_next_but_those_after_it_do() -> None:
    learnt = a_limit(64)
    end(learnt, 0.0, 0.5, 64)
    for began in (0.1, 0.3, 0.5):
        end(learnt, began, began + 0.5, 64)
    assert learnt.limit == 48
    end(learnt, 0.501, 1.001, 64)
    assert learnt.limit == 36


@pytest.mark.parametrize(
    ("usual", "late"),
    [
        (0.02, 0.4),  # half of the time
        (0.2, 0.4),
        (0.3, 0.6),  # twice the usual, which is slow
        (0.6, 0.792),  # what times out is late whatever is usual
    ],
)
def test_what_is_late_depends_on_the_timeout_and_on_what_is_usual(
    usual: float, late: float
) -> None:
    learnt = a_limit(usual=usual)
    end(learnt, 0.0, late - 1e-9, 64)
    assert learnt.limit == 64
    end(learnt, 0.0, late, 64)
    assert learnt.limit == 48


@pytest.mark.parametrize(
    ("meanwhile", "seconds", "permits"), [(40, 0.4, 40), (40, 0.8, 20), (60, 0.4, 48), (1, 0.4, 4)]
)
def test_it_falls_to_what_was_answered_in_the_time_that_an_attempt_may_take(
    meanwhile: int, seconds: float, permits: int
) -> None:
    learnt = a_limit(64)
    learnt.on_sample(0.0, seconds, 64, answered=False, meanwhile=meanwhile)
    assert learnt.limit == permits


@pytest.mark.parametrize(("meanwhile", "after"), [(0, [8, 16, 32, 32]), (1, [4, 5, 6, 7])])
def test_after_a_silence_permits_come_back_with_each_answer_up_to_half(
    meanwhile: int, after: list[int]
) -> None:
    learnt = a_limit(64)
    learnt.on_sample(0.0, 0.8, 64, answered=False, meanwhile=meanwhile)
    assert learnt.limit == 4
    assert [a_round(learnt, float(began), 0.01) for began in (1, 2, 3, 4)] == after


def test_only_an_answer_makes_more_of_them() -> None:
    learnt = fallen(a_limit())
    for _ in range(20):
        learnt.on_sample(30.0, 30.1, 64, answered=False, meanwhile=5)
    assert learnt.limit == 4
    a_round(learnt, 30.0, 0.1)
    assert a_round(learnt, 30.0, 0.1) == 5


def test_nothing_is_late_without_a_timeout() -> None:
    assert a_round(a_limit(attempt_timeout=inf), 0.0, 1e9) == 64


def test_an_upstream_that_is_always_slow_is_not_punished() -> None:
    learnt = a_limit(usual=0.7)
    assert [a_round(learnt, float(number), 0.75) for number in range(5)] == [64] * 5


def fallen(learnt: AdaptiveLimit) -> AdaptiveLimit:
    for number in range(20):
        a_round(learnt, float(number), 0.8)
    return learnt


def test_the_limit_grows_by_one_for_each_round_of_permits_up_to_the_ceiling() -> None:
    learnt = fallen(a_limit(16))
    permits = [4] + [a_round(learnt, 30.0 + number, 0.1) for number in range(40)]
    assert {after - before for before, after in pairwise(permits)} <= {0, 1}
    assert permits[10] >= 12  # a little less than one a round, which has grown meanwhile
    assert permits[-1] == 16


@pytest.mark.parametrize(("in_flight", "learns"), [(1, False), (2, True), (4, True)])
def test_nothing_is_learnt_while_most_permits_lie_idle(in_flight: int, learns: bool) -> None:
    learnt = fallen(a_limit())
    for _ in range(5):
        end(learnt, 30.0, 30.1, in_flight)
    assert learnt.limit == 4 + learns
    learnt = a_limit(4 * 16)
    end(learnt, 0.0, 0.8, in_flight * 16)
    assert learnt.limit == (48 if learns else 64)


@given(
    st.integers(1, 100),
    st.floats(0.001, 2),
    st.lists(
        st.tuples(st.floats(0, 3), st.floats(0, 2), st.integers(1, 100)), min_size=1, max_size=100
    ),
)
def test_whatever_ends_the_limit_keeps_its_bounds_and_moves_by_its_steps(
    ceiling: int, usual: float, attempts: Sequence[tuple[float, float, int]]
) -> None:
    learnt, time, fell = a_limit(ceiling, usual=usual), 0.0, -inf
    for pause, seconds, in_flight in attempts:
        time += pause
        before = learnt.limit
        end(learnt, time - seconds, time, in_flight)
        assert min(4, ceiling) <= learnt.limit <= ceiling
        if learnt.limit != before:
            assert 2 * in_flight >= before
        if learnt.limit < before:
            assert seconds >= 0.4
            assert time - seconds > fell
            assert learnt.limit >= int(before * 0.75)
            fell = time
        elif learnt.limit > before:
            assert learnt.limit == before + 1
            assert seconds < 0.8


class Workers:
    """A server of so many workers with a queue before them, which knows of no deadlines.

    Whoever goes away has been put in the queue all the same, and costs a worker its time.
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
    """What attempts take, by the virtual clock."""

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
def test_under_three_times_what_it_bears_an_upstream_goes_on_giving_what_it_can(
    workers: int, seconds: float
) -> None:
    capacity, lasts, patience = workers / seconds, 20.0, 2.0

    async def main() -> None:
        latency = Latency()
        bulkhead = Bulkhead(64, latency, 0.8)
        upstream = measured(latency, timeout(0.8)(Workers(workers, seconds)))
        fetch = shed(lambda _: None)(limit(bulkhead, lambda _: None)(upstream))
        good = longest = 0

        async def ask(number: int) -> None:
            nonlocal good, longest
            # Not at even distances: with all in step, every answer comes at the very deadline.
            await asyncio.sleep((number + number * 0.618 % 1) / (3 * capacity))
            deadline = now() + patience
            # Turned away on arrival, as the service does it.
            admission = Admission(lambda: [bulkhead.expected_wait()])
            end = await result_or_error(
                fetch(a_call(replace(a_context(deadline), admission=admission)))
            )
            assert isinstance(end, Answer | Timeout | Overloaded)
            assert now() <= deadline + 1e-6
            good += isinstance(end, Answer) and now() <= lasts
            longest = max(longest, bulkhead.queued)

        await asyncio.gather(*(ask(number) for number in range(int(3 * capacity * lasts))))
        assert good >= 0.85 * capacity * lasts
        assert longest <= 1.1 * capacity * patience
        assert (bulkhead.in_flight, bulkhead.queued) == (0, 0)

    on_virtual_time(main)
