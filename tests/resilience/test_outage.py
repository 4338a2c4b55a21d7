"""An outage of the whole upstream: noticed at once, cheap while it lasts, over when it is over."""

from itertools import count

import pytest

from app.call import Answer, Call, Event
from app.errors import CircuitOpen, Timeout, Unreachable
from app.resilience.events import BreakerStateChanged, RefreshEnded
from tests.fakes import a_cache_policy, an_answer, leaving_nothing, now
from tests.resilience.pipelines import a_pipeline, of_kind
from tests.resilience.traffic import End, Mirror, run, share_answered, states, steady

pytestmark = pytest.mark.anyio

REFUSES: End = (0.0, Unreachable("broken"))
HANGS: End = (60.0, None)


def down(start: float, end: float, how: End = REFUSES, seconds: float = 0.02) -> Mirror:
    """A mirror that answers in so many seconds, but fails from `start` to `end`."""
    return Mirror(lambda _: how if start <= now() < end else (seconds, None))


@pytest.mark.parametrize("how", [REFUSES, HANGS])
async def test_outage_of_many_keys_opens_the_circuit_breaker_within_twenty_results(
    events: list[Event], how: End
) -> None:
    mirror = down(0, 60, how)
    upstream = a_pipeline(mirror, retries=0, events=events)
    ended = await run(upstream, steady(0.1, 0.0, 10.0, lambda number: number))
    opened = of_kind(BreakerStateChanged, events)
    assert {event.state for event in opened} == {"open"}
    assert [type(one.result) for one in ended[:20]] == [
        Timeout if how == HANGS else Unreachable
    ] * 20
    refused = [one for one in ended[30:] if isinstance(one.result, CircuitOpen)]
    assert len(refused) >= 60
    assert {one.seconds for one in refused} == {0.0}
    assert len([at for at, _ in mirror.began if at > 3]) <= 7  # one probe a second


@pytest.mark.parametrize("every", [0.002, 0.05])
async def test_outage_in_steady_traffic_opens_the_circuit_breaker_within_twenty_results(
    every: float,
) -> None:
    """However many good ones there were before."""
    upstream = a_pipeline(mirror := down(5.0, 60.0), retries=0)
    await run(upstream, steady(every, 0.0, 5.02 + 21 * every, lambda number: number))
    assert states(upstream) == ["open"]
    # The last good answers come 20 ms after it has begun.
    assert len([at for at, _ in mirror.began if at >= 5]) <= 21 + 0.02 / every


async def test_outage_of_half_of_the_calls_opens_the_circuit_breaker_by_half_of_the_results() -> (
    None
):
    mirror = Mirror(lambda about: REFUSES if now() >= 5 and about % 2 else (0.0, None))
    upstream = a_pipeline(mirror, retries=0)
    await run(upstream, steady(0.05, 0.0, 9.9, lambda number: number))
    assert states(upstream) == ["closed"]
    await run(upstream, steady(0.05, 10.0, 10.5, lambda number: number))
    assert states(upstream) == ["open"]


async def test_outage_of_few_keys_puts_them_into_quarantine_and_is_over_within_two_seconds() -> (
    None
):
    """Three keys count nine times: too few to open the circuit breaker."""
    upstream = a_pipeline(mirror := down(2.0, 12.0), retries=2)
    ended = await run(upstream, steady(0.01, 0.0, 20.0, lambda number: number % 3))
    during = [one for one in ended if 2 <= one.client.start < 12]
    assert share_answered(during) == 0.0
    assert len([at for at, _ in mirror.began if 2 <= at < 12]) <= 3 * (6 + 10)
    assert share_answered([one for one in ended if one.client.start >= 14.0]) == 1.0


@pytest.mark.parametrize("hot", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("end", [10.0, 10.3, 10.7])
@pytest.mark.parametrize("how", [REFUSES, (0.5, Unreachable("broken"))])
async def test_outage_is_over_within_two_seconds_for_a_single_hot_key(
    how: End, end: float, hot: float
) -> None:
    """It is in quarantine, and the circuit is open: neither waits for the other for long."""
    upstream = a_pipeline(mirror := down(2.0, end, how), retries=2)
    many = steady(0.01, 1.5, 4.0, lambda number: 1 + number)  # they open the circuit, and leave
    ended = await run(upstream, many, steady(hot, 0.0, 15.0, 0))
    hot_ended = [one for one in ended if one.client.about == 0]
    assert any(isinstance(one.result, CircuitOpen) for one in hot_ended)
    assert share_answered([one for one in hot_ended if one.client.start >= end + 2]) == 1.0
    assert len([at for at, _ in mirror.began if 5 <= at < end]) <= end - 5 + 1


@pytest.mark.parametrize("how", [REFUSES, (0.5, Unreachable("broken")), HANGS])
async def test_outage_is_over_within_two_seconds_for_many_keys(how: End) -> None:
    upstream = a_pipeline(down(2.0, 10.0, how), retries=2)
    ended = await run(upstream, steady(0.02, 0.0, 15.0, lambda number: number % 500))
    assert share_answered([one for one in ended if 5 <= one.client.start < 10]) == 0.0
    assert share_answered([one for one in ended if one.client.start >= 12]) == 1.0


@pytest.mark.parametrize("end", [10.0 + part / 10 for part in range(10)])
@pytest.mark.parametrize("how", [REFUSES, (0.5, Unreachable("broken")), HANGS])
async def test_outage_is_over_a_second_after_its_end_however_long_the_last_probe_has_waited(
    how: End, end: float
) -> None:
    """A probe goes out each second, not a second after the one before has failed."""
    upstream = a_pipeline(mirror := down(2.0, end, how), retries=2)
    ended = await run(upstream, steady(0.02, 0.0, 13.0, lambda number: number))
    assert share_answered([one for one in ended if one.client.start >= end + 1.1]) == 1.0
    assert len([at for at, _ in mirror.began if 5 <= at < end]) <= end - 5 + 1


async def test_outage_is_over_though_all_clients_are_in_more_of_a_hurry_than_an_answer_takes() -> (
    None
):
    """Their probes go on without them: an upstream of 100 ms is well again for 60 ms clients."""
    upstream = a_pipeline(down(2.0, 6.0, seconds=0.1), retries=0)
    hurried = steady(0.02, 0.0, 12.0, lambda number: number, timeout=0.06)
    patient = steady(1.0, 0.5, 12.0, lambda number: 10_000 + number)
    ended = await run(upstream, hurried, patient)
    assert any(isinstance(one.result, CircuitOpen) for one in ended)
    after = [one for one in ended if one.client.start >= 8]
    assert {type(one.result) for one in after if one.client.timeout < 0.1} == {Timeout}
    assert share_answered([one for one in after if one.client.timeout > 0.1]) == 1.0
    assert states(upstream) == ["closed"]


async def test_outage_is_over_though_every_client_hangs_up_before_the_probe_is_answered() -> None:
    upstream = a_pipeline(down(2.0, 6.0, seconds=0.1), retries=0)
    opening = steady(0.02, 0.0, 4.0, lambda number: number)
    await run(upstream, opening, steady(0.02, 4.0, 8.0, lambda number: number, hang_up=0.05))
    assert states(upstream) == ["closed"]


async def test_outage_of_a_mirror_that_hangs_is_still_one_for_a_probe_of_a_client_in_a_hurry() -> (
    None
):
    """The probe has a whole attempt: so the circuit opens again, and the next calls do not wait."""
    upstream = a_pipeline(mirror := down(2.0, 60.0, HANGS), retries=0)
    patient = steady(0.02, 0.0, 6.0, lambda number: number)
    hurried = steady(0.02, 8.0, 18.0, lambda number: number, timeout=0.06)
    ended = [one for one in await run(upstream, patient, hurried) if one.client.start >= 8]
    assert share_answered(ended) == 0.0
    assert len([one for one in ended if isinstance(one.result, Timeout)]) <= 10
    assert len([at for at, _ in mirror.began if at >= 8]) <= 10  # one probe a second


@pytest.mark.parametrize("seconds", [0.06, 0.3, 0.5, 0.75, 2.0])
async def test_outage_of_a_mirror_that_hangs_is_noticed_by_clients_with_twice_the_usual_time(
    seconds: float,
) -> None:
    """What they have given up is no answer, and does not become the usual."""
    upstream = a_pipeline(down(2.0, 60.0, HANGS), retries=0)
    ended = await run(upstream, steady(0.02, 0.0, 12.0, lambda number: number, timeout=seconds))
    late = [one for one in ended if one.client.start >= 8]
    assert len([one for one in late if isinstance(one.result, CircuitOpen)]) >= 0.95 * len(late)


async def test_probes_of_an_outage_end_with_the_service() -> None:
    upstream = a_pipeline(mirror := down(0.0, 60.0, HANGS), retries=0)
    async with leaving_nothing():
        await run(
            upstream,
            steady(0.02, 0.0, 1.0, lambda number: number),
            steady(0.02, 2.0, 3.0, lambda number: number, timeout=0.05),
        )
    assert upstream.bulkhead.in_flight == 0
    assert mirror.began[-1][0] >= 2


# Refreshes


async def test_refresh_after_an_outage_does_not_wait_for_the_retry_budget(
    events: list[Event],
) -> None:
    """What was stored is served stale, and asked for again by calls that would be made anyway."""
    versions = count(1)
    mirror = down(5.0, 20.0)

    async def stored_for_two_seconds(call: Call) -> Answer:
        await mirror(call)
        policy = a_cache_policy(now() + 2.0, while_revalidate=60.0)
        return an_answer(b"%d" % next(versions), cache_policy=policy, requested_at=now())

    upstream = a_pipeline(stored_for_two_seconds, retries=2, events=events)
    for _ in range(10):
        upstream.budget.try_withdraw()
    ended = await run(upstream, steady(0.1, 0.0, 30.0, 0))
    assert share_answered(ended) == 1.0
    refreshed = [event.failure is None for event in of_kind(RefreshEnded, events)]
    assert refreshed.count(True) >= 5
    asked_after = [at for at, _ in mirror.began if at >= 20]
    assert asked_after[0] <= 22
    newest = ended[-1].result
    assert isinstance(newest, Answer)
    assert newest.cache_policy.fresh_until > 28


async def test_refresh_deposits_into_the_retry_budget_as_any_call_and_withdraws_nothing() -> None:
    async def stored_but_stale(_: Call) -> Answer:
        policy = a_cache_policy(now(), while_revalidate=60.0)
        return an_answer(cache_policy=policy, requested_at=now())

    upstream = a_pipeline(stored_but_stale, retries=2)
    for _ in range(10):
        upstream.budget.try_withdraw()
    await run(upstream, steady(1.0, 0.0, 6.0, 0))
    assert upstream.budget.balance == pytest.approx(6 * 0.2)
