"""One key that breaks its upstream takes nobody along: neither breaker, budget, limit nor time."""

import asyncio
from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import CircuitOpen, InvalidPayload, Unreachable, UpstreamStatus
from app.tasks import cancel_and_wait
from tests.fakes import now, on_virtual_time
from tests.resilience.pipelines import a_pipeline
from tests.resilience.traffic import (
    POISON,
    Client,
    End,
    Mirror,
    good,
    run,
    share_answered,
    states,
    steady,
)

pytestmark = pytest.mark.anyio

HANGS: End = (60.0, None)
POISONS: list[End] = [
    (0.0, Unreachable("broken")),
    (0.01, UpstreamStatus(500)),
    (0.01, UpstreamStatus(503, retry_after=1.0)),
    (0.3, InvalidPayload("garbage")),
    HANGS,
]


def poisoned(end: End, seconds: float = 0.02) -> Mirror:
    """A mirror that answers in so many seconds, but not about the poisoned key."""
    return Mirror(lambda about: end if about >= POISON else (seconds, None))


def different_keys(number: int) -> int:
    return number


@pytest.mark.parametrize("no_cache", [False, True])
@pytest.mark.parametrize("mirrors", [1, 2])
@pytest.mark.parametrize("end", POISONS, ids=repr)
async def test_poisoned_key_at_five_times_the_rate_of_good_ones_fails_alone(
    end: End, mirrors: int, no_cache: bool
) -> None:
    """As reloads (`no_cache`), its calls share nothing but what is in flight already."""
    all_mirrors = [poisoned(end) for _ in range(mirrors)]
    upstream = a_pipeline(*all_mirrors, retries=2)
    ended = await run(
        upstream,
        steady(0.1, 0.0, 12.0, different_keys),
        steady(0.02, 0.005, 12.0, POISON, no_cache=no_cache),
    )
    assert share_answered(good(ended)) == 1.0
    assert states(upstream) == ["closed"] * mirrors
    # All that hung at first were in flight together, and are late together: one fall for all.
    assert upstream.bulkhead.limit.limit >= (16 if end == HANGS and no_cache else 64)
    assert upstream.latency.p50 == pytest.approx(0.02)
    assert upstream.budget.balance == 10
    probes = [at for mirror in all_mirrors for at in mirror.asked_for(POISON) if at > 3]
    assert len(probes) <= 10


async def test_poisoned_key_is_circuit_open_with_retry_after_until_it_is_well_again() -> None:
    mirror = Mirror(lambda _: (0.0, UpstreamStatus(500) if now() < 5 else None))
    ended = await run(a_pipeline(mirror, retries=2), steady(0.1, 0.0, 10.0, POISON))
    assert [one.tally.attempts for one in ended[:5]] == [3, 1, 1, 1, 0]
    assert {type(one.result) for one in ended[:4]} == {UpstreamStatus}
    refused = [one.result for one in ended if isinstance(one.result, CircuitOpen)]
    assert refused[0] is ended[4].result
    assert all(0 <= (one.retry_after or 0) <= 1 for one in refused)
    assert [one.answered for one in ended if one.client.start >= 6] == [True] * 40
    assert len([at for at in mirror.asked_for(POISON) if at < 5]) <= 6 + 5


async def test_poisoned_keys_need_to_be_seven_to_open_a_circuit_breaker() -> None:
    """Each counts three times, and it takes twenty."""
    upstream = a_pipeline(poisoned((0.0, UpstreamStatus(500))), retries=0)
    keys = [POISON + n for n in range(7)]
    await run(upstream, *(steady(0.1, 0.0, 5.0, key) for key in keys[:6]))
    assert states(upstream) == ["closed"]
    upstream = a_pipeline(poisoned((0.0, UpstreamStatus(500))), retries=0)
    start = now()
    await run(upstream, *(steady(0.1, start, start + 5.0, key) for key in keys))
    assert states(upstream) != ["closed"]


@pytest.mark.parametrize("mirrors", [1, 2])
async def test_flaky_key_that_fails_every_second_time_is_not_in_quarantine_nor_opens_a_breaker(
    mirrors: int,
) -> None:
    attempts = count()

    def behave(about: int) -> End:
        fails = about == POISON and next(attempts) % 2 == 0
        return 0.02, UpstreamStatus(500) if fails else None

    upstream = a_pipeline(*(Mirror(behave) for _ in range(mirrors)), retries=0)
    ended = await run(
        upstream,
        steady(0.1, 0.0, 30.0, different_keys),
        steady(0.025, 0.005, 30.0, POISON),
    )
    assert share_answered(good(ended)) == 1.0
    flaky = [one for one in ended if one.client.about == POISON]
    assert share_answered(flaky) == pytest.approx(0.5, abs=0.01)
    assert {type(one.result) for one in flaky if not one.answered} == {UpstreamStatus}
    assert states(upstream) == ["closed"] * mirrors


async def test_flaky_key_is_answered_by_retries_on_its_own() -> None:
    attempts = count()
    mirror = Mirror(lambda _: (0.02, UpstreamStatus(500) if next(attempts) % 2 == 0 else None))
    ended = await run(a_pipeline(mirror, retries=1), steady(1.0, 0.0, 5.0, POISON))
    assert share_answered(ended) == 1.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("end", [(0.0, Unreachable("broken")), (0.3, Unreachable("broken")), HANGS])
@pytest.mark.parametrize("until", [10.0, 10.3, 10.7])
async def test_poisoned_key_does_not_keep_a_circuit_breaker_open_after_an_outage(
    end: End, until: float, seed: int
) -> None:
    """It is asked for five times as often as all the others, so it would be the first to probe."""
    random = Random(seed)

    def behave(about: int) -> End:
        return end if about == POISON or 5 <= now() < until else (0.02, None)

    def at_random(every: float, key: int | None) -> list[Client]:
        clients, start = list[Client](), 0.0
        while (start := start + random.expovariate(1 / every)) < 20:
            clients.append(Client(start, random.randrange(1000) if key is None else key))
        return clients

    upstream = a_pipeline(Mirror(behave), retries=2)
    ended = await run(upstream, at_random(0.05, None), at_random(0.01, POISON))
    others = good(ended)
    assert any(isinstance(one.result, CircuitOpen) for one in others)
    assert share_answered([one for one in others if one.client.start > until + 2]) == 1.0


SCHEDULE = st.tuples(
    st.sampled_from(POISONS),
    st.integers(1, 3),  # mirrors
    st.integers(0, 3),  # retries
    st.sampled_from(["off", "auto", 0.05]),  # hedge
    st.sampled_from([0.02, 0.05, 0.1]),  # seconds that a good answer takes
    st.lists(st.floats(0.005, 0.3), min_size=5, max_size=40),  # between calls of the poisoned key
    st.lists(st.sampled_from([0.3, 1.0, 2.0]), min_size=1, max_size=3),  # their timeouts
    st.lists(st.sampled_from([None, None, 0.05, 0.5]), min_size=1, max_size=3),  # their hang-ups
    st.booleans(),  # reloads
    st.integers(1, 30),  # keys of the good calls
)


@settings(max_examples=30)
@given(SCHEDULE)
def test_poisoned_key_never_lowers_the_share_of_good_answers_below_99_percent(
    schedule: tuple[
        End,
        int,
        int,
        str | float,
        float,
        list[float],
        list[float],
        list[float | None],
        bool,
        int,
    ],
) -> None:
    end, mirrors, retries, hedge, seconds, pauses, timeouts, hang_ups, no_cache, keys = schedule

    async def main() -> None:
        all_mirrors = [poisoned(end, seconds) for _ in range(mirrors)]
        upstream = a_pipeline(*all_mirrors, retries=retries, hedge=hedge)
        bad, start = list[Client](), 0.0
        for number in count():
            start += pauses[number % len(pauses)]
            if start > 10:
                break
            bad.append(
                Client(
                    start,
                    POISON,
                    timeouts[number % len(timeouts)],
                    hang_ups[number % len(hang_ups)],
                    no_cache,
                )
            )
        every = max(10 / len(bad) * 5, 0.01)  # a fifth of their rate
        ended = await run(upstream, bad, steady(every, 0.0, 10.0, lambda number: number % keys))
        assert share_answered(good(ended)) >= 0.99

    on_virtual_time(main)


@pytest.mark.parametrize("hang_up", [0.06, 0.3, 0.7])
@pytest.mark.parametrize("mirrors", [1, 2])
async def test_poisoned_key_that_hangs_until_its_clients_hang_up_fails_alone(
    hang_up: float, mirrors: int
) -> None:
    """Reloads share nothing, so each of them has its attempt cancelled, and none times out."""
    all_mirrors = [poisoned(HANGS) for _ in range(mirrors)]
    upstream = a_pipeline(*all_mirrors, retries=2)
    ended = await run(
        upstream,
        steady(0.1, 0.0, 20.0, different_keys),
        steady(0.01, 3.0, 20.0, POISON, hang_up=hang_up, no_cache=True),
    )
    assert share_answered(good(ended)) == 1.0
    assert states(upstream) == ["closed"] * mirrors
    assert upstream.latency.p50 == pytest.approx(0.02)
    assert upstream.bulkhead.limit.limit >= 16
    probes = [at for mirror in all_mirrors for at in mirror.asked_for(POISON) if at > 5]
    assert len(probes) <= 16


@pytest.mark.parametrize(("mirrors", "hedge"), [(1, "off"), (2, 5)])
async def test_flaky_key_leaves_the_others_their_share_of_the_retry_budget(
    mirrors: int, hedge: object
) -> None:
    """It fails every second time, and would have an extra attempt for each."""
    attempts = count()

    def behave(about: int) -> End:
        fails = next(attempts) % 2 == 0 if about == POISON else about % 10 == 0 and now() % 1 < 0.5
        return 0.02, UpstreamStatus(500) if fails else None

    upstream = a_pipeline(*(Mirror(behave) for _ in range(mirrors)), retries=2, hedge=hedge)
    flaky = steady(0.02, 0.005, 30.0, POISON)
    balances = list[float]()

    async def watch() -> None:
        while True:
            balances.append(upstream.budget.balance)
            await asyncio.sleep(0.1)

    watching = asyncio.ensure_future(watch())
    ended = await run(upstream, steady(0.1, 0.0, 30.0, lambda number: number % 9 + 1), flaky)
    await cancel_and_wait([watching])
    assert share_answered(good(ended)) == 1.0
    assert 3 <= min(balances) <= 7  # it has what can be spared, and no more
