"""What an upstream gets, and answers, under more load than it can bear."""

import asyncio
from dataclasses import replace
from heapq import heapreplace

import pytest

from app.call import Admission, Answer, Call, Event
from app.errors import Overloaded, Timeout
from app.resilience.bulkhead import Bulkhead
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.limit import limit
from app.resilience.layers.measure import measure
from app.resilience.layers.shed import shed
from app.resilience.layers.timeout import timeout
from tests.fakes import a_call, a_context, an_answer, now, on_virtual_time, result_or_error


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
        latency = Latency(now)
        bulkhead = Bulkhead(64, latency, 0.8, now)
        failures, emit = KeyFailures(), list[Event]().append
        server = timeout(0.8)(QueueingServer(workers, seconds))
        measured = measure(latency, failures, emit, mirror=0, clock=now)(server)
        fetch = shed(emit)(limit(bulkhead, failures, emit)(measured))
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
