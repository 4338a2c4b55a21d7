"""The admission queue: what is begun, what waits, and what is refused at once."""

import asyncio
from collections.abc import Callable
from time import process_time

import pytest

from app.server.admission_queue import AdmissionQueue

pytestmark = pytest.mark.anyio

COST = 0.001
SLICE = 3
"""Requests of this cost that are begun in one turn of the loop."""


class Begun:
    """Counts the requests that were begun, in order."""

    def __init__(self) -> None:
        self.order: list[int] = []

    def request(self, number: int) -> Callable[[], None]:
        return lambda: self.order.append(number)


def a_queue(
    request_timeout: float, shed: list[int] | None = None, most: int = 1000
) -> AdmissionQueue:
    counts = [] if shed is None else shed
    return AdmissionQueue(asyncio.get_running_loop(), request_timeout, most, counts.append)


async def test_a_request_begins_at_once_while_there_is_time_in_this_turn_of_the_loop() -> None:
    queue, begun = a_queue(2.0), Begun()
    assert all(queue.submit(begun.request(n)) for n in range(SLICE))
    assert begun.order == list(range(SLICE))
    assert queue.expected_wait == 0


async def test_what_is_too_much_for_one_turn_of_the_loop_waits_in_order() -> None:
    queue, begun = a_queue(2.0), Begun()
    assert all(queue.submit(begun.request(n)) for n in range(5 * SLICE))
    assert len(begun.order) == SLICE
    assert queue.expected_wait == pytest.approx(4 * SLICE * COST)
    for _ in range(10):
        await asyncio.sleep(0)
    assert begun.order == list(range(5 * SLICE))
    assert queue.expected_wait == 0


async def test_a_burst_beyond_half_of_a_requests_time_is_shed() -> None:
    queue, begun = a_queue(0.2), Begun()
    admitted = [queue.submit(begun.request(n)) for n in range(500)]
    assert admitted == sorted(admitted, reverse=True)  # who came first is served
    assert SLICE + 100 <= admitted.count(True) <= SLICE + 102


async def test_no_more_wait_than_leave_connections_on_which_to_refuse() -> None:
    queue, begun = a_queue(2.0, most=5), Begun()
    admitted = [queue.submit(begun.request(n)) for n in range(SLICE + 10)]
    assert admitted == [True] * (SLICE + 5) + [False] * 5


async def test_a_dear_request_is_shed_where_a_cheap_one_still_has_time() -> None:
    queue, begun = a_queue(0.2), Begun()
    for n in range(SLICE + 50):
        queue.submit(begun.request(n))
    assert not queue.submit(begun.request(-1), weight=100)
    assert queue.submit(begun.request(-2))


async def test_one_dear_request_begins_when_there_is_nothing_else() -> None:
    queue, begun = a_queue(0.01), Begun()
    assert queue.submit(begun.request(1), weight=100)
    assert begun.order == [1]


async def test_a_request_about_many_costs_as_much_as_many() -> None:
    queue = a_queue(2.0)
    queue.on_end(50)
    before, began = queue.cost, process_time()
    while process_time() - began < 0.005:
        pass
    queue.on_end(50)
    assert queue.cost == pytest.approx(before * 0.75 + 0.0001 / 4, rel=0.2)


async def test_dear_requests_are_begun_in_turns_of_the_loop_as_many_cheap_ones() -> None:
    queue, begun = a_queue(2.0), Begun()
    assert all(queue.submit(begun.request(n), weight=SLICE) for n in range(3))
    assert begun.order == [0]


async def test_begin_all_empties_the_queue_at_once() -> None:
    queue, begun = a_queue(2.0), Begun()
    for n in range(5 * SLICE):
        queue.submit(begun.request(n))
    queue.begin_all()
    assert begun.order == list(range(5 * SLICE))


async def test_shed_requests_are_reported_once_a_second_with_their_number() -> None:
    counts: list[int] = []
    queue, begun = a_queue(0.02, counts), Begun()
    for n in range(100):
        queue.submit(begun.request(n))
    assert counts == []
    await asyncio.sleep(1)
    assert sum(counts) == 100 - len(begun.order)
    assert len(counts) == 1
