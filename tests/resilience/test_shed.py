from dataclasses import replace

import pytest

from app.errors import Overloaded
from app.resilience.events import Event, Shed
from app.resilience.latency import Latency
from app.resilience.limit import Bulkhead
from app.resilience.shed import overload_wait, shed
from tests.fakes import FakeUpstream, a_call, a_context, ending

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
def test_a_request_is_kept_out_if_all_its_upstreams_are_behind_and_one_by_too_much(
    bulkheads: list[Bulkhead], wait: float | None
) -> None:
    assert overload_wait(iter(bulkheads), seconds=2.0) == wait


async def test_a_request_that_was_let_in_is_left_alone() -> None:
    upstream, told = FakeUpstream(1), list[Event]()
    assert (await shed(told.append)(upstream)(a_call())).data.json == b"[]"
    assert (len(upstream.began), told) == (1, [])


@pytest.mark.parametrize("wait", [1.23456, 0.0])
async def test_nothing_is_begun_for_a_request_that_was_turned_away(wait: float) -> None:
    upstream, told, call = (
        FakeUpstream(1),
        list[Event](),
        a_call(replace(a_context(), overload_wait=wait)),
    )
    failure = await ending(shed(told.append)(upstream)(call))
    assert isinstance(failure, Overloaded)
    assert failure.retry_after == round(wait, 3)
    assert "waiting" in failure.detail
    assert told == [Shed(call, failure)]
    assert upstream.began == []
