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
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.layers.measure import measure
from tests.fakes import FakeUpstream, a_call, now, result_or_error
from tests.resilience.states import a_latency, failed

pytestmark = pytest.mark.anyio

MIRROR = 3


def measured(
    events: list[Event],
    fetch: Fetch,
    latency: Latency | None = None,
    failures: KeyFailures | None = None,
) -> Fetch:
    layer = measure(
        latency or Latency(),
        KeyFailures() if failures is None else failures,
        events.append,
        mirror=MIRROR,
        clock=now,
    )
    return layer(fetch)


async def cancel_in_flight(fetch: Fetch, call: Call, after: float = 1.0) -> bool:
    """Cancel the call when it has been in flight so long; whether it ended as cancelled."""
    task = asyncio.ensure_future(fetch(call))
    await asyncio.sleep(after)
    task.cancel()
    await result_or_error(task)
    return task.cancelled()


@pytest.mark.parametrize("failure", [None, Unreachable("broken"), Timeout("late"), NotFound("")])
async def test_measure_emits_one_event_for_an_attempt_however_it_ends(
    events: list[Event], failure: Failure | None
) -> None:
    call = a_call()
    result = await result_or_error(measured(events, FakeUpstream(0.5, failure))(call))
    assert failure is None or result is failure
    (event,) = events
    assert isinstance(event, AttemptEnded)
    assert (event.call, event.mirror, event.failure) == (call, MIRROR, failure)
    assert event.seconds == 0.5


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
    assert (event.call, event.mirror, event.seconds) == (call, MIRROR, 1.0)


async def test_measure_emits_nothing_for_a_bug(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    assert await result_or_error(measured(events, FakeUpstream(0, bug))(a_call())) is bug
    assert events == []


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (None, True),
        (Timeout("late"), True),
        *((failure, False) for failure in (NotFound(""), UpstreamStatus(403), UpstreamStatus(400))),
        *((failure, False) for failure in (Unreachable(""), UpstreamStatus(500))),
        *((failure, False) for failure in (InvalidPayload(""), Overloaded(""))),
    ],
    ids=repr,
)
async def test_measure_adds_good_answers_and_timeouts_to_the_latency_and_no_other_attempts(
    events: list[Event], failure: Failure | None, counts: bool
) -> None:
    """A fast 404 says nothing of how long an answer takes."""
    latency = a_latency(1.0)
    fetch = measured(events, FakeUpstream(5.0, failure), latency)
    for _ in range(40):
        await result_or_error(fetch(a_call()))
    assert (latency.p50, latency.p95) == ((5.0, 5.0) if counts else (1.0, 1.0))


@pytest.mark.parametrize(("seconds", "counts"), [(0.999, False), (1.0, True)])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_measure_adds_an_unfinished_attempt_to_the_latency_if_it_has_taken_the_median(
    events: list[Event], seconds: float, counts: bool, cancelled: bool
) -> None:
    latency = a_latency(1.0, 9.0)
    fetch = measured(events, FakeUpstream(60 if cancelled else seconds, Timeout("late")), latency)
    for _ in range(19):
        if cancelled:
            await cancel_in_flight(fetch, a_call(), seconds)
        else:
            await result_or_error(fetch(a_call()))
    # Of twenty samples, the slowest is the p95; of more, it is the last but one.
    assert (latency.p95 == 1.0) is counts


@pytest.mark.parametrize(("times", "counts"), [(2, True), (3, False), (50, False)])
async def test_measure_adds_no_timeout_of_a_key_that_has_counted_enough_to_the_latency(
    events: list[Event], times: int, counts: bool
) -> None:
    latency, call = a_latency(0.001), a_call()
    failures = failed(KeyFailures(), call, times)
    fetch = measured(events, FakeUpstream(0.1, Timeout("late")), latency, failures)
    for _ in range(40):
        await result_or_error(fetch(call))
    assert latency.p50 == pytest.approx(0.1 if counts else 0.001)


async def test_measure_adds_the_good_answers_of_a_key_that_has_counted_enough(
    events: list[Event],
) -> None:
    latency, call = a_latency(1.0), a_call()
    fetch = measured(events, FakeUpstream(2.0), latency, failed(KeyFailures(), call, 3))
    for _ in range(40):
        await fetch(call)
    assert latency.p50 == 2.0


@pytest.mark.parametrize(("after", "counts"), [(0.5, False), (1.99, False), (2.01, True)])
async def test_measure_counts_an_attempt_given_up_after_twice_the_usual_time_against_its_key(
    events: list[Event], after: float, counts: bool
) -> None:
    failures = KeyFailures()
    fetch = measured(events, FakeUpstream(60), a_latency(1.0), failures)
    for _ in range(6):
        await cancel_in_flight(fetch, a_call(), after)
    assert failures.is_quarantined(a_call().key) is counts


async def test_measure_counts_nothing_given_up_while_the_usual_time_is_unknown(
    events: list[Event],
) -> None:
    failures = KeyFailures()
    fetch = measured(events, FakeUpstream(60), Latency(), failures)
    await cancel_in_flight(fetch, a_call(), 30.0)
    assert len(failures) == 0


async def test_measure_adds_no_attempt_given_up_to_the_latency_if_its_key_has_counted_enough(
    events: list[Event],
) -> None:
    latency = a_latency(1.0)
    fetch = measured(events, FakeUpstream(60), latency, failed(KeyFailures(), a_call(), 3))
    for _ in range(5):
        await cancel_in_flight(fetch, a_call(), 1.5)
    assert latency.p95 == 1.0
