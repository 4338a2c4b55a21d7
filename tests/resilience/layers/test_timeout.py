import asyncio

import pytest

from app.call import Answer, Call
from app.errors import Timeout, Unreachable
from app.resilience.layers.timeout import timeout
from tests.fakes import FakeUpstream, a_call, a_context, an_answer, now, result_or_error

pytestmark = pytest.mark.anyio


async def test_timeout_passes_on_an_answer_that_is_in_time() -> None:
    assert (await timeout(0.8)(FakeUpstream(seconds=0.79))(a_call())).data.json == b"[]"


async def test_timeout_ends_an_attempt_that_takes_longer() -> None:
    upstream = FakeUpstream(seconds=60)
    with pytest.raises(Timeout, match=r"no answer within 0\.8 s"):
        await timeout(0.8)(upstream)(a_call())
    assert now() == pytest.approx(0.8)
    assert (upstream.cancelled, upstream.in_flight) == (1, 0)


async def test_timeout_is_total_however_often_a_part_arrives() -> None:
    async def dripping(_: Call) -> Answer:
        for _drop in range(100):
            await asyncio.sleep(0.1)
        return an_answer()

    with pytest.raises(Timeout):
        await timeout(0.75)(dripping)(a_call())
    assert now() == pytest.approx(0.75)


async def test_timeout_ends_an_attempt_at_a_deadline_that_is_sooner() -> None:
    with pytest.raises(Timeout, match=r"no answer within 0\.3 s"):
        await timeout(0.8)(FakeUpstream(seconds=60))(a_call(a_context(deadline=0.3)))
    assert now() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("deadline", "allotted"), [(10.0, 0.8), (1.3, 0.8), (0.7, 0.2), (0.5, 0.0)]
)
async def test_timeout_failure_carries_the_time_that_was_allotted(
    deadline: float, allotted: float
) -> None:
    await asyncio.sleep(0.5)
    failure = await result_or_error(timeout(0.8)(FakeUpstream(60))(a_call(a_context(deadline))))
    assert isinstance(failure, Timeout)
    assert failure.allotted == pytest.approx(allotted)


@pytest.mark.parametrize("late", [2.0, 2.001, 5.0])
async def test_timeout_begins_no_attempt_at_or_after_the_deadline(late: float) -> None:
    upstream = FakeUpstream()
    await asyncio.sleep(late)
    with pytest.raises(Timeout):
        await timeout(0.8)(upstream)(a_call(a_context(deadline=2.0)))
    assert upstream.began == []
    assert now() == late


@pytest.mark.parametrize("error", [Unreachable("broken"), ZeroDivisionError()])
async def test_timeout_passes_on_failures_and_bugs(error: Exception) -> None:
    assert await result_or_error(timeout(0.8)(FakeUpstream(0.1, error))(a_call())) is error


async def test_timeout_passes_on_a_cancellation() -> None:
    task = asyncio.ensure_future(timeout(0.8)(FakeUpstream(seconds=60))(a_call()))
    await asyncio.sleep(0.1)
    task.cancel()
    await result_or_error(task)
    assert task.cancelled()


async def test_timeout_passes_on_a_timeout_error_of_others_because_it_is_a_bug() -> None:
    bug = TimeoutError()
    assert await result_or_error(timeout(0.8)(FakeUpstream(0.1, bug))(a_call())) is bug
