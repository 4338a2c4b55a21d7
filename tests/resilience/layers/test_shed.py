import asyncio
from dataclasses import replace

import pytest

from app.call import Admission, Context, Event
from app.errors import Overloaded
from app.resilience.bulkhead import Bulkhead
from app.resilience.events import Shed
from app.resilience.latency import Latency
from app.resilience.layers.shed import overload_wait, shed
from tests.fakes import FakeUpstream, a_call, a_context, a_shed_context, result_or_error

pytestmark = pytest.mark.anyio


def congested(seconds: float) -> Bulkhead:
    """Somebody who came now would wait for so long."""
    latency = Latency()
    for _ in range(20):
        latency.add(seconds)
    bulkhead = Bulkhead(1, latency)
    bulkhead.try_acquire()
    assert bulkhead.expected_wait() == seconds
    return bulkhead


def free() -> Bulkhead:
    return Bulkhead(1)


def waiting_for(bulkheads: list[Bulkhead]) -> Context:
    """Of a request that needs all of them within two seconds."""
    admission = Admission(lambda: [bulkhead.expected_wait() for bulkhead in bulkheads])
    return replace(a_context(deadline=2.0), admission=admission)


@pytest.mark.parametrize(
    ("bulkheads", "wait"),
    [
        ([congested(1.01)], 1.01),
        ([congested(1.0)], None),  # half of the time is for waiting
        ([congested(2), congested(0.5), congested(3)], 3.0),
        ([congested(3), congested(0.11)], 3.0),
        ([congested(3), congested(0.1)], None),  # one is hardly behind, and can tell something
        ([congested(0.9), congested(0.9)], None),
        ([congested(3), free()], None),
        ([free()], None),
        ([], None),
    ],
)
async def test_a_request_is_shed_if_all_its_upstreams_are_behind_and_one_by_too_much(
    bulkheads: list[Bulkhead], wait: float | None
) -> None:
    context = waiting_for(bulkheads)
    assert overload_wait(context) == wait


async def test_a_request_is_shed_or_let_in_once_and_for_all_of_its_calls() -> None:
    bulkheads = [congested(3)]
    context = waiting_for(bulkheads)
    assert overload_wait(context) == 3.0
    bulkheads[:] = [free()]
    assert overload_wait(context) == 3.0

    context = waiting_for(bulkheads)
    assert overload_wait(context) is None
    bulkheads[:] = [congested(3)]
    assert overload_wait(context) is None


async def test_a_request_with_less_time_is_shed_sooner() -> None:
    await asyncio.sleep(1.0)
    assert overload_wait(waiting_for([congested(0.51)])) == 0.51  # of a second that is left


async def test_a_request_that_was_let_in_is_left_alone() -> None:
    upstream, events = FakeUpstream(1), list[Event]()
    assert (await shed(events.append)(upstream)(a_call())).data.json == b"[]"
    assert (len(upstream.began), events) == (1, [])


@pytest.mark.parametrize("wait", [1.23456, 0.0])
async def test_nothing_is_begun_for_a_request_that_was_turned_away(wait: float) -> None:
    upstream, events, call = (
        FakeUpstream(1),
        list[Event](),
        a_call(a_shed_context(wait)),
    )
    failure = await result_or_error(shed(events.append)(upstream)(call))
    assert isinstance(failure, Overloaded)
    assert failure.retry_after == round(wait, 3)
    assert "waiting" in failure.detail
    assert events == [Shed(call, failure)]
    assert upstream.began == []
