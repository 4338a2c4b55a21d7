"""No one's deadline or hang-up counts against others, and what is quick teaches nothing."""

from itertools import count
from random import Random

import pytest

from app.call import Event
from app.errors import CircuitOpen, NotFound, Overloaded, Timeout
from app.resilience.events import BreakerStateChanged
from tests.resilience.pipelines import a_pipeline, of_kind
from tests.resilience.traffic import Mirror, run, share_answered, states, steady

pytestmark = pytest.mark.anyio

SECONDS = 0.1
"""That every good answer takes."""


def in_steady_time() -> Mirror:
    return Mirror(lambda _: (SECONDS, None))


@pytest.mark.parametrize("share", [0.97, 0.98, 0.99, 1.0, 1.01])
@pytest.mark.parametrize("keys", [1, 50, 10_000])
async def test_hurried_clients_near_the_usual_time_take_nothing_from_patient_ones(
    events: list[Event], share: float, keys: int
) -> None:
    upstream = a_pipeline(in_steady_time(), retries=2, events=events)
    ended = await run(
        upstream,
        steady(0.017, 0.0, 20.0, lambda number: number % keys, timeout=share * SECONDS),
        steady(0.1, 0.05, 20.0, lambda number: number % keys),
    )
    patient = [one for one in ended if one.client.timeout > 1]
    assert share_answered(patient) == 1.0
    assert {round(one.seconds, 3) <= 0.2 for one in patient} == {True}
    hurried = [one for one in ended if one.client.timeout < 1]
    assert {type(one.result) for one in hurried if not one.answered} <= {Timeout}
    assert (of_kind(BreakerStateChanged, events), upstream.bulkhead.limit.limit) == ([], 64)
    assert upstream.latency.p50 == pytest.approx(SECONDS)
    assert upstream.latency.unusual == pytest.approx(2 * SECONDS)


@pytest.mark.parametrize("share", [0.97, 1.01])
async def test_hurried_clients_before_anything_is_known_open_no_circuit_breaker(
    share: float,
) -> None:
    upstream = a_pipeline(in_steady_time(), retries=2)
    hurried = steady(0.02, 0.0, 5.0, lambda number: number, timeout=share * SECONDS)
    patient = steady(0.1, 5.0, 8.0, lambda number: number)
    ended = await run(upstream, hurried, patient)
    assert share_answered([one for one in ended if one.client.start >= 5]) == 1.0
    assert states(upstream) == ["closed"]


@pytest.mark.parametrize("hedge", ["off", "auto"])
async def test_fast_404s_and_deadlines_of_30_ms_teach_nothing(
    events: list[Event], hedge: str
) -> None:
    """Nine of ten are absent and quick; the others take their usual time, and have it."""
    mirror = Mirror(lambda about: (SECONDS, None) if about % 10 == 0 else (0.001, NotFound("gone")))
    upstream = a_pipeline(mirror, retries=2, hedge=hedge, events=events)
    ended = await run(
        upstream,
        steady(0.01, 0.0, 20.0, lambda number: number),
        steady(0.02, 0.005, 20.0, lambda number: 10 * number, timeout=0.03),
    )
    patient = [one for one in ended if one.client.timeout > 1]
    assert {type(one.result) for one in patient if not one.answered} == {NotFound}
    assert share_answered([one for one in patient if one.client.about % 10 == 0]) == 1.0
    assert of_kind(BreakerStateChanged, events) == []
    assert upstream.latency.p50 == pytest.approx(SECONDS)
    assert upstream.latency.unusual == pytest.approx(2 * SECONDS)
    assert (upstream.bulkhead.limit.limit, len(upstream.failures)) == (64, 0)


async def test_fast_404s_alone_leave_the_latency_unknown() -> None:
    upstream = a_pipeline(Mirror(lambda _: (0.001, NotFound("gone"))), retries=2)
    await run(upstream, steady(0.01, 0.0, 5.0, lambda number: number))
    assert (upstream.latency.p50, upstream.latency.baseline) == (None, 0.0)
    assert (states(upstream), len(upstream.failures)) == (["closed"], 0)


@pytest.mark.parametrize("hang_up", [0.0, 0.01, 0.099, 0.1])
@pytest.mark.parametrize("keys", [1, 10_000])
async def test_hang_ups_count_against_nobody(
    events: list[Event], hang_up: float, keys: int
) -> None:
    upstream = a_pipeline(in_steady_time(), retries=2, events=events)
    ended = await run(
        upstream,
        steady(0.01, 0.0, 10.0, lambda number: number % keys, hang_up=hang_up),
        steady(0.1, 0.05, 10.0, lambda number: number % keys),
    )
    assert share_answered([one for one in ended if one.client.hang_up is None]) == 1.0
    assert of_kind(BreakerStateChanged, events) == []
    assert (upstream.bulkhead.limit.limit, len(upstream.failures)) == (64, 0)
    assert upstream.latency.p50 == pytest.approx(SECONDS)
    assert upstream.bulkhead.in_flight == 0


async def test_hurried_clients_and_hang_ups_with_jitter_take_nothing_from_patient_ones(
    events: list[Event],
) -> None:
    random, numbers = Random(7), count()
    mirror = Mirror(lambda _: (random.uniform(0.08, 0.12), None))
    upstream = a_pipeline(mirror, retries=2, events=events)
    ended = await run(
        upstream,
        *(
            steady(0.05, random.random(), 20.0, lambda _: next(numbers), timeout=seconds)
            for seconds in (0.03, 0.06, 0.09, 0.1, 0.11, 0.15)
        ),
        steady(0.05, 0.0, 20.0, lambda _: next(numbers), hang_up=0.07),
        steady(0.05, 0.0, 20.0, lambda _: next(numbers)),
    )
    patient = [one for one in ended if one.client.timeout > 1 and one.client.hang_up is None]
    assert share_answered(patient) == 1.0
    kinds = {type(one.result) for one in ended}
    assert kinds.isdisjoint({CircuitOpen, Overloaded})
    assert of_kind(BreakerStateChanged, events) == []
