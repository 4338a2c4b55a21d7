import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Overloaded, Timeout
from app.resilience.call import Answer, Fetch
from app.resilience.events import AttemptEnded
from app.resilience.limit import Bulkhead
from app.resilience.pipeline import pipeline
from tests.fakes import FakeUpstream, a_call, a_context, ending, now, on_virtual_time

pytestmark = pytest.mark.anyio


@pytest.fixture
def told() -> list[AttemptEnded]:
    return []


def a_pipeline(
    send: Fetch,
    told: list[AttemptEnded],
    *,
    attempt_timeout: float = 0.8,
    bulkhead: Bulkhead | None = None,
) -> Fetch:
    return pipeline(
        send,
        attempt_timeout=attempt_timeout,
        bulkhead=bulkhead or Bulkhead(64),
        emit=told.append,
    )


async def test_the_wait_for_a_permit_is_not_the_attempts_time(told: list[AttemptEnded]) -> None:
    fetch = a_pipeline(FakeUpstream(seconds=0.7), told, bulkhead=Bulkhead(1))
    await asyncio.gather(*(fetch(a_call()) for _ in range(3)))
    assert now() == pytest.approx(2.1)
    assert [one.failure for one in told] == [None, None, None]


async def test_an_attempt_that_timed_out_is_counted_and_told(told: list[AttemptEnded]) -> None:
    call = a_call()
    failure = await ending(a_pipeline(FakeUpstream(seconds=60), told)(call))
    assert isinstance(failure, Timeout)
    assert [(one.call, one.failure) for one in told] == [(call, failure)]
    assert call.tally.attempts == 1
    assert now() == pytest.approx(0.8)


async def test_an_attempt_that_the_deadline_ends_timed_out_and_is_told(
    told: list[AttemptEnded],
) -> None:
    fetch = a_pipeline(FakeUpstream(seconds=60), told, attempt_timeout=30)
    failure = await ending(fetch(a_call(a_context(deadline=2.0))))
    assert isinstance(failure, Timeout)
    assert [one.failure for one in told] == [failure]
    assert now() == pytest.approx(2.0)


async def test_a_call_that_waits_for_a_permit_in_vain_is_overloaded_and_no_attempt(
    told: list[AttemptEnded],
) -> None:
    upstream = FakeUpstream(seconds=60)
    fetch = a_pipeline(upstream, told, attempt_timeout=60, bulkhead=Bulkhead(1))
    patient = asyncio.ensure_future(fetch(a_call(a_context(deadline=30))))
    await asyncio.sleep(0)
    call = a_call(a_context(deadline=2.0))
    assert isinstance(await ending(fetch(call)), Overloaded)
    assert 2.0 <= now() <= 2.01
    assert (call.tally.attempts, told, len(upstream.began)) == (0, [], 1)
    await ending(patient)


@pytest.mark.parametrize(("capacity", "fan_out"), [(1, 10), (64, 1)])
async def test_a_permit_that_comes_only_at_the_deadline_is_no_permit_before_it(
    told: list[AttemptEnded], capacity: int, fan_out: int
) -> None:
    upstream, context = FakeUpstream(seconds=60), a_context(deadline=2.0, fan_out=fan_out)
    fetch = a_pipeline(upstream, told, attempt_timeout=60, bulkhead=Bulkhead(capacity))
    first, second = a_call(context), a_call(context)
    ends = await asyncio.gather(ending(fetch(first)), ending(fetch(second)))
    assert [type(end) for end in ends] == [Timeout, Overloaded]
    assert (first.tally.attempts, second.tally.attempts) == (1, 0)
    assert [one.call for one in told] == [first]
    assert len(upstream.began) == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 4), st.floats(0.001, 4), st.floats(0, 4)), min_size=1, max_size=20
    ),
    st.integers(1, 3),
    st.floats(0.1, 3),
)
def test_whatever_happens_a_call_is_over_by_its_deadline_and_begins_nothing_after_it(
    calls: Sequence[tuple[float, float, float]], capacity: int, attempt_timeout: float
) -> None:
    async def main() -> None:
        bulkhead = Bulkhead(capacity)

        async def one(start: float, patience: float, seconds: float) -> None:
            upstream = FakeUpstream(seconds)
            fetch = a_pipeline(upstream, [], attempt_timeout=attempt_timeout, bulkhead=bulkhead)
            await asyncio.sleep(start)
            end = await ending(fetch(a_call(a_context(deadline=start + patience))))
            assert now() <= start + patience + 0.05
            assert isinstance(end, Answer | Timeout | Overloaded)
            assert all(began < start + patience for began in upstream.began)

        await asyncio.gather(*(one(*times) for times in calls))
        assert bulkhead.in_flight == 0

    on_virtual_time(main)
