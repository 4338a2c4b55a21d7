import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Overloaded, Unreachable
from app.resilience.call import Answer, Call, Context
from app.resilience.limit import Bulkhead, limit
from tests.fakes import FakeUpstream, a_call, a_context, an_answer, ending, now, on_virtual_time

pytestmark = pytest.mark.anyio


async def test_one_upstream_never_has_more_than_its_capacity_in_flight() -> None:
    upstream, bulkhead = FakeUpstream(seconds=1), Bulkhead(3)
    await asyncio.gather(*(limit(bulkhead)(upstream)(a_call()) for _ in range(20)))
    assert upstream.most == 3
    assert now() == 7.0  # 20 attempts, three at a time: nobody waits without need


async def test_one_request_never_has_more_than_its_fan_out_in_flight() -> None:
    upstream, context = FakeUpstream(seconds=1), a_context(fan_out=2)
    layers = [limit(Bulkhead(64))(upstream) for _ in range(3)]
    await asyncio.gather(*(fetch(a_call(context)) for fetch in layers * 2))
    assert upstream.most == 2
    assert now() == 3.0


async def test_a_request_that_waits_for_its_fan_out_holds_no_permit_of_the_upstream() -> None:
    upstream, bulkhead, greedy = FakeUpstream(seconds=1), Bulkhead(2), a_context(fan_out=1)
    fetch = limit(bulkhead)(upstream)
    waiting = [asyncio.ensure_future(fetch(a_call(greedy))) for _ in range(5)]
    await asyncio.sleep(0)
    await fetch(a_call())
    assert now() == 1.0  # beside the greedy request's first attempt, not behind its fifth
    await asyncio.gather(*waiting)


async def test_permits_are_given_in_the_order_of_asking() -> None:
    order: list[int] = []
    fetch = limit(Bulkhead(1))(FakeUpstream(seconds=1))

    async def ask(number: int) -> None:
        await fetch(a_call())
        order.append(number)

    await asyncio.gather(*map(ask, range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_the_bulkhead_tells_how_many_are_in_flight() -> None:
    bulkhead = Bulkhead(3)
    fetch = limit(bulkhead)(FakeUpstream(seconds=1))
    tasks = [asyncio.ensure_future(fetch(a_call())) for _ in range(5)]
    await asyncio.sleep(0.5)
    assert (bulkhead.in_flight, bulkhead.capacity) == (3, 3)
    await asyncio.gather(*tasks)
    assert bulkhead.in_flight == 0


@pytest.mark.parametrize("error", [Unreachable("broken"), ZeroDivisionError()])
async def test_permits_come_back_when_the_attempt_goes_wrong(error: Exception) -> None:
    bulkhead, context = Bulkhead(1), a_context(fan_out=1)
    assert await ending(limit(bulkhead)(FakeUpstream(1, error))(a_call(context))) is error
    await limit(bulkhead)(FakeUpstream())(a_call(context))
    assert now() == 1.0


@pytest.mark.parametrize(("capacity", "fan_out"), [(1, 10), (64, 1)])
async def test_who_has_no_permit_at_the_deadline_is_overloaded(capacity: int, fan_out: int) -> None:
    upstream, bulkhead, context = (
        FakeUpstream(seconds=60),
        Bulkhead(capacity),
        a_context(2, fan_out),
    )
    fetch = limit(bulkhead)(upstream)
    holder = asyncio.ensure_future(fetch(a_call(context)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="no free capacity before the deadline"):
        await fetch(a_call(context))
    assert now() == 2.0
    assert (len(upstream.began), bulkhead.in_flight) == (1, 1)
    holder.cancel()
    await ending(holder)
    assert bulkhead.in_flight == 0


async def test_a_permit_that_is_free_is_taken_without_a_look_at_the_clock() -> None:
    await asyncio.sleep(5)
    upstream = FakeUpstream(seconds=1)
    await limit(Bulkhead(1))(upstream)(a_call(a_context(deadline=2.0)))
    assert upstream.began == [5.0]


Schedule = Sequence[tuple[float, float]]


@given(
    st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), max_size=20),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_however_calls_are_cancelled_every_permit_comes_back(
    schedule: Schedule, capacity: int, fan_out: int
) -> None:
    async def main() -> None:
        upstream, bulkhead, context = FakeUpstream(1), Bulkhead(capacity), a_context(60, fan_out)
        fetch = limit(bulkhead)(upstream)

        async def leave(start: float, patience: float) -> None:
            await asyncio.sleep(start)
            task = asyncio.ensure_future(fetch(a_call(context)))
            await asyncio.wait([task], timeout=patience)
            task.cancel()
            await ending(task)

        await asyncio.gather(*(leave(*times) for times in schedule))
        assert upstream.most <= min(capacity, fan_out)
        assert bulkhead.in_flight == 0
        await _all_meet_inside(bulkhead, a_context(fan_out=capacity), capacity)
        await _all_meet_inside(Bulkhead(fan_out), context, fan_out)

    on_virtual_time(main)


async def _all_meet_inside(bulkhead: Bulkhead, context: Context, number: int) -> None:
    """As many calls get in at once as there ever were permits."""
    everybody = asyncio.Barrier(number)

    async def meet(_: Call) -> Answer:
        await everybody.wait()
        return an_answer()

    async with asyncio.timeout(1):
        await asyncio.gather(*(limit(bulkhead)(meet)(a_call(context)) for _ in range(number)))
