"""What was learnt in a slow spell must not outlive it: a burst after it is answered."""

import pytest

from tests.fakes import now
from tests.resilience.pipelines import a_pipeline
from tests.resilience.traffic import Client, Mirror, run, share_answered, steady

pytestmark = pytest.mark.anyio

SLOW_FROM, SLOW_UNTIL = 3.0, 10.0
BURST = 70


def slow_for_a_while(slow: float, calm: float = 0.02) -> Mirror:
    return Mirror(lambda _: (slow if SLOW_FROM <= now() < SLOW_UNTIL else calm, None))


def a_burst(at: float, timeout: float = 2.0) -> list[Client]:
    """Six more than there are permits, all about different keys."""
    return [Client(at, 10_000 + number, timeout) for number in range(BURST)]


def a_slow_spell() -> list[Client]:
    return list(steady(0.01, 0.0, SLOW_UNTIL, lambda number: number))


@pytest.mark.parametrize("slow", [0.5, 0.7])
async def test_burst_after_a_slow_spell_and_thirty_seconds_of_quiet_is_answered(
    slow: float,
) -> None:
    upstream = a_pipeline(slow_for_a_while(slow), retries=0)
    await run(upstream, a_slow_spell())
    assert upstream.bulkhead.limit.limit < 16
    ended = await run(upstream, a_burst(now() + 30.0, timeout=0.5))
    assert share_answered(ended) == 1.0
    assert upstream.bulkhead.limit.limit == 64
    assert upstream.latency.typical_max == pytest.approx(0.02)


@pytest.mark.parametrize("every", [0.05, 0.5, 1.0])
async def test_burst_after_a_slow_spell_and_forty_calm_calls_is_answered(every: float) -> None:
    """However long they take: forty in two seconds show it as well as in forty."""
    upstream = a_pipeline(slow_for_a_while(0.7), retries=0)
    await run(upstream, a_slow_spell())
    start = now() + 1.0
    calm = await run(
        upstream, steady(every, start, start + 40 * every, lambda number: 1000 + number)
    )
    assert (len(calm), share_answered(calm)) == (40, 1.0)
    ended = await run(upstream, a_burst(now()))
    assert share_answered(ended) == 1.0


async def test_burst_on_a_fresh_pipeline_is_answered() -> None:
    ended = await run(a_pipeline(slow_for_a_while(0.5, 0.5), retries=0), a_burst(0.0))
    assert share_answered(ended) == 1.0


async def test_few_calls_an_hour_are_answered_after_a_slow_spell() -> None:
    upstream = a_pipeline(slow_for_a_while(0.7), retries=0)
    await run(upstream, a_slow_spell())
    ended = await run(upstream, steady(1200.0, 100.0, 4 * 3600.0, timeout=0.1))
    assert share_answered(ended) == 1.0
    assert upstream.latency.p50 is None


@pytest.mark.parametrize("quiet", [5000.0, 86_400.0])
async def test_first_call_after_a_quiet_night_is_answered_though_the_evening_was_slow(
    quiet: float,
) -> None:
    upstream = a_pipeline(slow_for_a_while(0.7), retries=0)
    await run(upstream, a_slow_spell())
    assert upstream.bulkhead.limit.limit < 64
    ended = await run(upstream, a_burst(now() + quiet))
    assert share_answered(ended) == 1.0
