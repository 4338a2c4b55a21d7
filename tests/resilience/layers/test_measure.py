import asyncio

import pytest

from app.call import Call, Event, Fetch
from app.errors import (
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.events import AttemptCancelled, AttemptEnded
from app.resilience.latency import Latency
from app.resilience.layers.measure import measure
from tests.fakes import FakeUpstream, a_call, result_or_error

pytestmark = pytest.mark.anyio

MIRROR = 3


@pytest.fixture
def events() -> list[Event]:
    return []


def observed(events: list[Event], fetch: Fetch, latency: Latency | None = None) -> Fetch:
    return measure(latency or Latency(), events.append, mirror=MIRROR)(fetch)


async def given_up(fetch: Fetch, call: Call) -> bool:
    """Cancel the call under way; whether it ended so."""
    task = asyncio.ensure_future(fetch(call))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    return task.cancelled()


@pytest.mark.parametrize("failure", [None, Unreachable("broken"), Timeout("late"), NotFound("")])
async def test_an_attempt_is_told_once_however_it_ends(
    events: list[Event], failure: Failure | None
) -> None:
    call = a_call()
    end = await result_or_error(observed(events, FakeUpstream(0, failure))(call))
    assert failure is None or end is failure
    (one,) = events
    assert isinstance(one, AttemptEnded)
    assert (one.call, one.mirror, one.failure) == (call, MIRROR, failure)
    assert one.seconds >= 0


async def test_every_attempt_counts_on_its_own_call(events: list[Event]) -> None:
    one, other = a_call(), a_call()
    fetch = observed(events, FakeUpstream())
    for call in (one, other, one):
        await fetch(call)
    assert (one.tally.attempts, other.tally.attempts) == (2, 1)


async def test_an_attempt_counts_from_its_beginning(events: list[Event]) -> None:
    call = a_call()
    task = asyncio.ensure_future(observed(events, FakeUpstream(seconds=60))(call))
    await asyncio.sleep(1)
    assert (call.tally.attempts, events) == (1, [])
    task.cancel()
    await result_or_error(task)


async def test_a_cancelled_attempt_is_told_as_such_and_stays_cancelled(events: list[Event]) -> None:
    call = a_call()
    assert await given_up(observed(events, FakeUpstream(seconds=60)), call)
    (one,) = events
    assert isinstance(one, AttemptCancelled)
    assert (one.call, one.mirror) == (call, MIRROR)


async def test_a_bug_is_no_outcome_of_an_attempt(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    assert await result_or_error(observed(events, FakeUpstream(0, bug))(a_call())) is bug
    assert events == []


def all_took(seconds: float) -> Latency:
    latency = Latency()
    for _ in range(20):
        latency.add(seconds)
    assert latency.p95 == seconds
    return latency


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (None, True),
        *((failure, True) for failure in (NotFound(""), UpstreamStatus(403), Timeout("late"))),
        *((failure, False) for failure in (Unreachable(""), UpstreamStatus(500))),
        *((failure, False) for failure in (InvalidPayload(""), Overloaded(""))),
    ],
)
async def test_what_the_mirror_answered_tells_how_long_it_takes_and_what_broke_does_not(
    events: list[Event], failure: Failure | None, counts: bool
) -> None:
    latency = all_took(0.0)
    fetch = observed(events, FakeUpstream(0, failure), latency)
    for _ in range(40):
        await result_or_error(fetch(a_call()))
    assert (latency.p95 != 0) is counts


@pytest.mark.parametrize(("usual", "counts"), [(0.0, True), (60.0, False)])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_what_was_given_up_counts_if_it_was_late_already(
    events: list[Event], usual: float, counts: bool, cancelled: bool
) -> None:
    latency = all_took(usual)
    fetch = observed(events, FakeUpstream(60 if cancelled else 0, Timeout("late")), latency)
    for _ in range(40):
        await (given_up(fetch, a_call()) if cancelled else result_or_error(fetch(a_call())))
    assert ((latency.p50, latency.p95) != (usual, usual)) is counts
