import asyncio

import pytest

from app.errors import Overloaded
from app.resilience.bulkhead import Bulkhead
from app.resilience.latency import Latency
from tests.fakes import leaving_nothing, now, result_or_error
from tests.resilience.states import a_full_bulkhead, a_latency, queue_at

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("latency", [Latency(), a_latency(0.5)])
async def test_bulkhead_turns_nobody_away_while_a_permit_is_free_or_its_latency_is_unknown(
    latency: Latency,
) -> None:
    bulkhead = Bulkhead(1, latency)
    assert bulkhead.expected_wait() == 0.0
    assert not bulkhead.cannot_meet(deadline=0.1, now=now())
    await bulkhead.acquire(deadline=0.1)
    assert bulkhead.cannot_meet(deadline=0.1, now=now()) is (latency.p50 is not None)


async def test_bulkhead_queues_at_most_a_thousand_waiters() -> None:
    bulkhead = a_full_bulkhead(1)
    queue = await queue_at(bulkhead, *[60.0] * 1001)
    assert (bulkhead.queued, queue[-1].done()) == (1000, True)
    assert isinstance(queue[-1].exception(), Overloaded)
    for _ in range(1001):
        bulkhead.release()
    await asyncio.gather(*queue[:-1])
    assert bulkhead.in_flight == 0


async def test_bulkhead_has_a_free_permit_after_all_waiters_were_too_near_their_deadlines() -> None:
    bulkhead = a_full_bulkhead(1, a_latency(0.5))
    queue = await queue_at(bulkhead, 1.4, 1.6)
    await asyncio.sleep(1.2)
    bulkhead.release()
    assert [type(await result_or_error(task)) for task in queue] == [Overloaded, Overloaded]
    assert bulkhead.free


@pytest.mark.parametrize("deadline", [60.0, 1.4])
@pytest.mark.parametrize("first", ["release", "cancel"])
async def test_bulkhead_passes_a_permit_on_if_its_waiter_is_cancelled_at_the_same_time(
    deadline: float, first: str
) -> None:
    bulkhead = a_full_bulkhead(1, a_latency(0.5))
    async with leaving_nothing():
        cancelled, following = await queue_at(bulkhead, deadline, 60.0)
        await asyncio.sleep(1)
        if first == "cancel":
            cancelled.cancel()
        bulkhead.release()
        cancelled.cancel()
        assert isinstance(await result_or_error(cancelled), asyncio.CancelledError)
        await following
        assert bulkhead.in_flight == 1


async def test_bulkhead_takes_a_cancelled_waiter_from_its_queue() -> None:
    bulkhead = a_full_bulkhead(1)
    cancelled, following = await queue_at(bulkhead, 60.0, 60.0)
    cancelled.cancel()
    await result_or_error(cancelled)
    assert bulkhead.queued == 1
    bulkhead.release()
    await following


def set_limit(bulkhead: Bulkhead, limit: int) -> None:
    bulkhead.limit._exact = float(limit)
    assert bulkhead.limit.limit == limit


async def test_bulkhead_follows_its_adaptive_limit_up_and_down() -> None:
    bulkhead = a_full_bulkhead(3)
    queue = await queue_at(bulkhead, *[60.0] * 4)
    set_limit(bulkhead, 1)
    for in_flight in (2, 1):
        bulkhead.release()
        assert (bulkhead.in_flight, bulkhead.queued) == (in_flight, 4)
    set_limit(bulkhead, 3)
    assert not bulkhead.free  # a newcomer must not overtake the queue
    bulkhead.release()
    assert (bulkhead.in_flight, bulkhead.queued) == (3, 1)
    bulkhead.release()
    await asyncio.gather(*queue)


async def test_bulkhead_takes_a_newcomer_without_a_queue_once_its_limit_has_grown_with_time() -> (
    None
):
    bulkhead = Bulkhead(64, a_latency(0.02), 0.8, now)
    await asyncio.sleep(0.8)
    bulkhead.limit.on_sample(0.0, now(), 64, answered=False, meanwhile=1)
    assert bulkhead.limit.limit == 4
    for _ in range(4):
        assert bulkhead.try_acquire()
    assert not bulkhead.free
    await asyncio.sleep(5)
    assert bulkhead.limit.limit == 16
    assert bulkhead.try_acquire()
