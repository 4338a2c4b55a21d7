import asyncio
from dataclasses import replace

import pytest

from app.call import Admission, Context, Event
from app.errors import Overloaded
from app.resilience.bulkhead import Bulkhead
from app.resilience.events import Shed
from app.resilience.layers.shed import overload_wait, shed
from tests.fakes import FakeUpstream, a_call, a_context, a_shed_context, result_or_error
from tests.resilience.states import a_full_bulkhead, a_latency

pytestmark = pytest.mark.anyio


def behind(seconds: float) -> Bulkhead:
    """A newcomer has to wait for so long."""
    bulkhead = a_full_bulkhead(1, a_latency(seconds))
    assert bulkhead.expected_wait() == seconds
    return bulkhead


def free() -> Bulkhead:
    return Bulkhead(1)


def a_context_that_needs(bulkheads: list[Bulkhead]) -> Context:
    """The context of a request that needs a permit of each, with a deadline at 2 s."""
    admission = Admission(lambda: [bulkhead.expected_wait() for bulkhead in bulkheads])
    return replace(a_context(deadline=2.0), admission=admission)


@pytest.mark.parametrize(
    ("bulkheads", "wait"),
    [
        ([behind(1.01)], 1.01),
        ([behind(1.0)], None),  # permits may take half of the time
        ([behind(2), behind(0.5), behind(3)], 3.0),
        ([behind(3), behind(0.11)], 3.0),
        ([behind(3), behind(0.1)], None),  # one is hardly behind: a part of the answer can be had
        ([behind(0.9), behind(0.9)], None),
        ([behind(3), free()], None),
        ([free()], None),
        ([], None),
    ],
)
async def test_shed_needs_all_upstreams_behind_and_one_of_them_by_too_much(
    bulkheads: list[Bulkhead], wait: float | None
) -> None:
    context = a_context_that_needs(bulkheads)
    assert overload_wait(context) == wait


async def test_shed_is_decided_once_for_all_calls_of_a_request() -> None:
    bulkheads = [behind(3)]
    context = a_context_that_needs(bulkheads)
    assert overload_wait(context) == 3.0
    bulkheads[:] = [free()]
    assert overload_wait(context) == 3.0

    context = a_context_that_needs(bulkheads)
    assert overload_wait(context) is None
    bulkheads[:] = [behind(3)]
    assert overload_wait(context) is None


async def test_shed_comes_sooner_for_a_request_with_a_near_deadline() -> None:
    await asyncio.sleep(1.0)
    assert overload_wait(a_context_that_needs([behind(0.51)])) == 0.51  # of 1 s until the deadline


async def test_shed_passes_on_the_calls_of_a_request_that_was_let_in(events: list[Event]) -> None:
    upstream = FakeUpstream(1)
    assert (await shed(events.append)(upstream)(a_call())).data.json == b"[]"
    assert (len(upstream.began), events) == (1, [])


@pytest.mark.parametrize("wait", [1.23456, 0.0])
async def test_shed_request_begins_no_call_and_is_overloaded_with_retry_after(
    events: list[Event], wait: float
) -> None:
    upstream, call = FakeUpstream(1), a_call(a_shed_context(wait))
    failure = await result_or_error(shed(events.append)(upstream)(call))
    assert isinstance(failure, Overloaded)
    assert failure.retry_after == round(wait, 3)
    assert "waiting" in failure.detail
    assert events == [Shed(call, failure)]
    assert upstream.began == []
