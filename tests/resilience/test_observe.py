import asyncio

import pytest

from app.errors import Unreachable
from app.resilience.events import AttemptEnded
from app.resilience.observe import observe
from tests.fakes import FakeUpstream, a_call, ending

pytestmark = pytest.mark.anyio


@pytest.fixture
def told() -> list[AttemptEnded]:
    return []


async def test_an_attempt_that_went_well_is_told_once(told: list[AttemptEnded]) -> None:
    call = a_call()
    await observe(told.append)(FakeUpstream())(call)
    assert [(one.call, one.failure) for one in told] == [(call, None)]
    assert told[0].seconds >= 0


async def test_an_attempt_that_failed_is_told_once_and_fails(told: list[AttemptEnded]) -> None:
    call, failure = a_call(), Unreachable("broken")
    assert await ending(observe(told.append)(FakeUpstream(0, failure))(call)) is failure
    assert [(one.call, one.failure) for one in told] == [(call, failure)]


async def test_every_attempt_counts_on_its_own_call(told: list[AttemptEnded]) -> None:
    one, other = a_call(), a_call()
    fetch = observe(told.append)(FakeUpstream())
    for call in (one, other, one):
        await fetch(call)
    assert (one.tally.attempts, other.tally.attempts) == (2, 1)


async def test_an_attempt_counts_from_its_beginning(told: list[AttemptEnded]) -> None:
    call = a_call()
    task = asyncio.ensure_future(observe(told.append)(FakeUpstream(seconds=60))(call))
    await asyncio.sleep(1)
    assert (call.tally.attempts, told) == (1, [])
    task.cancel()
    await ending(task)


async def test_a_cancelled_attempt_is_no_outcome(told: list[AttemptEnded]) -> None:
    task = asyncio.ensure_future(observe(told.append)(FakeUpstream(seconds=60))(a_call()))
    await asyncio.sleep(1)
    task.cancel()
    await ending(task)
    assert task.cancelled()
    assert told == []


async def test_a_bug_is_no_outcome_of_an_attempt(told: list[AttemptEnded]) -> None:
    bug = ZeroDivisionError()
    assert await ending(observe(told.append)(FakeUpstream(0, bug))(a_call())) is bug
    assert told == []
