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
from tests.resilience.states import a_latency

pytestmark = pytest.mark.anyio

MIRROR = 3


def measured(events: list[Event], fetch: Fetch, latency: Latency | None = None) -> Fetch:
    return measure(latency or Latency(), events.append, mirror=MIRROR)(fetch)


async def cancel_in_flight(fetch: Fetch, call: Call) -> bool:
    """Cancel the call while it is in flight; whether it ended as cancelled."""
    task = asyncio.ensure_future(fetch(call))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    return task.cancelled()


@pytest.mark.parametrize("failure", [None, Unreachable("broken"), Timeout("late"), NotFound("")])
async def test_measure_emits_one_event_for_an_attempt_however_it_ends(
    events: list[Event], failure: Failure | None
) -> None:
    call = a_call()
    result = await result_or_error(measured(events, FakeUpstream(0, failure))(call))
    assert failure is None or result is failure
    (event,) = events
    assert isinstance(event, AttemptEnded)
    assert (event.call, event.mirror, event.failure) == (call, MIRROR, failure)
    assert event.seconds >= 0


async def test_measure_counts_each_attempt_on_its_own_call(events: list[Event]) -> None:
    one, other = a_call(), a_call()
    fetch = measured(events, FakeUpstream())
    for call in (one, other, one):
        await fetch(call)
    assert (one.tally.attempts, other.tally.attempts) == (2, 1)


async def test_measure_counts_an_attempt_when_it_begins(events: list[Event]) -> None:
    call = a_call()
    task = asyncio.ensure_future(measured(events, FakeUpstream(seconds=60))(call))
    await asyncio.sleep(1)
    assert (call.tally.attempts, events) == (1, [])
    task.cancel()
    await result_or_error(task)


async def test_measure_emits_attempt_cancelled_and_passes_the_cancellation_on(
    events: list[Event],
) -> None:
    call = a_call()
    assert await cancel_in_flight(measured(events, FakeUpstream(seconds=60)), call)
    (event,) = events
    assert isinstance(event, AttemptCancelled)
    assert (event.call, event.mirror) == (call, MIRROR)


async def test_measure_emits_nothing_for_a_bug(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    assert await result_or_error(measured(events, FakeUpstream(0, bug))(a_call())) is bug
    assert events == []


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (None, True),
        *((failure, True) for failure in (NotFound(""), UpstreamStatus(403), Timeout("late"))),
        *((failure, False) for failure in (Unreachable(""), UpstreamStatus(500))),
        *((failure, False) for failure in (InvalidPayload(""), Overloaded(""))),
    ],
)
async def test_measure_adds_answers_and_timeouts_to_the_latency_but_no_broken_attempts(
    events: list[Event], failure: Failure | None, counts: bool
) -> None:
    latency = a_latency(0.0)
    assert latency.p95 == 0.0
    fetch = measured(events, FakeUpstream(0, failure), latency)
    for _ in range(40):
        await result_or_error(fetch(a_call()))
    assert (latency.p95 != 0) is counts


@pytest.mark.parametrize(("median", "counts"), [(0.0, True), (60.0, False)])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_measure_adds_an_unfinished_attempt_to_the_latency_if_it_has_taken_the_median(
    events: list[Event], median: float, counts: bool, cancelled: bool
) -> None:
    latency = a_latency(median)
    assert latency.p95 == median
    fetch = measured(events, FakeUpstream(60 if cancelled else 0, Timeout("late")), latency)
    for _ in range(40):
        if cancelled:
            await cancel_in_flight(fetch, a_call())
        else:
            await result_or_error(fetch(a_call()))
    assert ((latency.p50, latency.p95) != (median, median)) is counts
