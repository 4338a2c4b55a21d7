import asyncio

import pytest

from app.errors import Failure, Overloaded, Timeout, Unreachable
from app.resilience.deadline import deadline
from tests.fakes import FakeUpstream, a_call, a_context, begun, ending, now

pytestmark = pytest.mark.anyio


async def test_a_call_in_time_is_left_alone() -> None:
    upstream = FakeUpstream(seconds=9.9)
    assert (await deadline()(upstream)(a_call())).data.json == b"[]"
    assert now() == pytest.approx(9.9)


async def test_a_call_that_never_got_a_permit_is_overloaded_at_its_deadline() -> None:
    with pytest.raises(Overloaded, match="no free capacity before the deadline"):
        await deadline()(FakeUpstream(seconds=60))(a_call(a_context(deadline=2.0)))
    assert 2.0 <= now() <= 2.01


async def test_a_call_whose_attempt_had_begun_timed_out_at_its_deadline() -> None:
    with pytest.raises(Timeout, match="no answer before the deadline"):
        await deadline()(begun(FakeUpstream(seconds=60)))(a_call(a_context(deadline=2.0)))
    assert 2.0 <= now() <= 2.01


async def test_what_runs_below_is_over_when_the_failure_is_told() -> None:
    upstream = FakeUpstream(seconds=60)
    with pytest.raises(Overloaded):
        await deadline()(upstream)(a_call(a_context(deadline=2.0)))
    assert (upstream.cancelled, upstream.in_flight) == (1, 0)


async def test_a_deadline_in_the_past_ends_the_call_at_once() -> None:
    await asyncio.sleep(5)
    with pytest.raises(Overloaded):
        await deadline()(FakeUpstream(seconds=60))(a_call(a_context(deadline=2.0)))
    assert now() == 5.0


@pytest.mark.parametrize("error", [Unreachable("broken"), ZeroDivisionError()])
async def test_what_goes_wrong_in_time_is_passed_on(error: Exception) -> None:
    call = deadline()(FakeUpstream(1, error))(a_call())
    assert await ending(call) is error


async def test_a_cancellation_is_not_a_failure() -> None:
    task = asyncio.ensure_future(deadline()(FakeUpstream(seconds=60))(a_call()))
    await asyncio.sleep(1)
    task.cancel()
    assert not isinstance(await ending(task), Failure)
    assert task.cancelled()
