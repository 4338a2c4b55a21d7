"""Two mirrors: what one of them does, or says, binds that one alone."""

import pytest

from app.call import Event
from app.errors import CircuitOpen, Failure, Timeout, TooManyRequests, Unreachable, UpstreamStatus
from app.resilience.events import Retrying
from tests.fakes import now
from tests.resilience.pipelines import a_pipeline, of_kind
from tests.resilience.traffic import POISON, End, Mirror, good, run, share_answered, states, steady

pytestmark = pytest.mark.anyio

REFUSES: End = (0.0, Unreachable("broken"))
SLOW: End = (0.5, UpstreamStatus(500))
HANGS: End = (60.0, None)


def well(seconds: float = 0.02) -> Mirror:
    return Mirror(lambda _: (seconds, None))


def dead(how: End, until: float = 1e9) -> Mirror:
    return Mirror(lambda _: how if now() < until else (0.02, None))


@pytest.mark.parametrize("how", [REFUSES, SLOW, HANGS])
@pytest.mark.parametrize("dead_one", [0, 1])
@pytest.mark.parametrize("hedge", ["off", "auto"])
async def test_dead_mirror_of_two_costs_no_answer_of_a_call_a_second_about_one_key(
    events: list[Event], how: End, dead_one: int, hedge: object
) -> None:
    """At night, with the time and the retries that clients have by default."""
    mirrors = [well(), well()]
    mirrors[dead_one] = dead(how)
    upstream = a_pipeline(*mirrors, retries=2, hedge=hedge, events=events)
    ended = await run(upstream, steady(1.0, 0.0, 60.0, 0, timeout=2.0))
    assert share_answered([one for one in ended if one.client.start >= 3]) == 1.0
    assert states(upstream)[1 - dead_one] == "closed"
    # Once it is found out, nothing extra is done, and nobody waits.
    later = [one for one in ended if one.client.start >= 10]
    assert {(one.tally.retries, one.tally.hedges) for one in later} == {(0, 0)}
    assert max(one.seconds for one in later) == pytest.approx(0.02)
    assert upstream.budget.balance == 10
    # The dead one is asked by a probe a second, at most.
    assert len([at for at, _ in mirrors[dead_one].began if at >= 10]) <= 50


@pytest.mark.parametrize("every", [0.05, 1.0])
@pytest.mark.parametrize("mirrors", [2, 3])
async def test_mirror_that_hangs_and_loses_each_race_is_found_out_when_the_budget_is_spent(
    every: float, mirrors: int
) -> None:
    """Its attempts are cancelled, which says nothing; until hedges are too many, they help."""
    hanging, *others = dead(HANGS), *(well() for _ in range(mirrors - 1))
    upstream = a_pipeline(hanging, *others, retries=2, hedge=0.05)
    ended = await run(upstream, steady(every, 0.0, 120 * every, lambda number: number))
    assert share_answered(ended) == 1.0
    late = [one for one in ended if one.client.start >= 90 * every]
    assert max(one.seconds for one in late) == pytest.approx(0.02)
    assert states(upstream)[0] != "closed"
    assert states(upstream)[1:] == ["closed"] * (mirrors - 1)
    assert len([one for one in ended if one.seconds > 0.1]) <= 12


@pytest.mark.parametrize("how", [REFUSES, HANGS])
async def test_dead_mirror_of_two_costs_no_answer_without_retries_once_it_has_failed_three_times(
    how: End,
) -> None:
    upstream = a_pipeline(dead(how), well(), retries=0)
    ended = await run(upstream, steady(1.0, 0.0, 60.0, 0))
    assert len([one for one in ended if not one.answered]) == 3
    assert share_answered([one for one in ended if one.client.start >= 6]) == 1.0


@pytest.mark.parametrize("how", [REFUSES, HANGS])
async def test_dead_mirror_of_two_is_asked_again_within_two_seconds_of_its_return(
    how: End,
) -> None:
    mirrors = [dead(how, until=20.3), well()]
    upstream = a_pipeline(*mirrors, retries=2)
    ended = await run(upstream, steady(0.1, 0.0, 40.0, 0))
    assert share_answered(ended) == 1.0
    assert states(upstream) == ["closed", "closed"]
    again = [at for at, _ in mirrors[0].began if at >= 22.3]
    assert len(again) == pytest.approx(177 / 2, abs=5)  # every second call


async def test_dead_mirror_of_two_with_many_calls_a_second_is_asked_once_a_second(
    events: list[Event],
) -> None:
    """The key is well on the other mirror, so each of its calls could be the next probe."""
    mirrors = [dead(REFUSES), well()]
    upstream = a_pipeline(*mirrors, retries=2, events=events)
    ended = await run(upstream, steady(0.01, 0.0, 20.0, 0))
    assert share_answered(ended) == 1.0
    assert len(mirrors[0].began) <= 3 + 20
    assert len(of_kind(Retrying, events)) == 3


async def test_both_mirrors_dead_leave_one_closed_by_the_old_rule_until_half_of_twenty_failed() -> (
    None
):
    upstream = a_pipeline(dead(REFUSES), dead(REFUSES), retries=0)
    await run(upstream, steady(0.01, 0.0, 0.1, lambda number: number))
    assert sorted(states(upstream)) == ["closed", "open"]
    ended = await run(upstream, steady(0.01, 0.1, 0.9, lambda number: 100 + number))
    assert states(upstream) == ["open", "open"]
    assert isinstance(ended[-1].result, CircuitOpen)


@pytest.mark.parametrize("how", [REFUSES, SLOW])
@pytest.mark.parametrize("hedge", ["off", 0.1])
async def test_poisoned_key_on_two_mirrors_opens_neither_beside_a_few_good_calls(
    how: End, hedge: object
) -> None:
    mirrors = [Mirror(lambda about: how if about >= POISON else (0.02, None)) for _ in range(2)]
    upstream = a_pipeline(*mirrors, retries=2, hedge=hedge)
    ended = await run(
        upstream, steady(0.5, 0.0, 30.0, lambda number: number), steady(0.05, 0.1, 30.0, POISON)
    )
    assert share_answered(good(ended)) == 1.0
    assert states(upstream) == ["closed", "closed"]


async def test_poisoned_key_alone_on_two_mirrors_leaves_one_of_them_closed() -> None:
    mirrors = [Mirror(lambda about: REFUSES if about >= POISON else (0.02, None)) for _ in range(2)]
    upstream = a_pipeline(*mirrors, retries=2)
    await run(upstream, steady(0.1, 0.0, 60.0, POISON))
    assert "closed" in states(upstream)
    start = now()
    ended = await run(upstream, steady(0.05, start, start + 3.0, lambda number: number))
    assert share_answered(ended) == 1.0


# Retry-After


def says(failure: Failure, until: float = 1e9) -> Mirror:
    return Mirror(lambda _: (0.01, failure) if now() < until else (0.01, None))


@pytest.mark.parametrize(
    "failure", [UpstreamStatus(503, retry_after=5.0), TooManyRequests("", retry_after=5.0)]
)
@pytest.mark.parametrize("hedge", ["off", 0.5])
async def test_retry_after_of_one_mirror_sends_calls_to_the_other_without_waiting(
    failure: Failure, hedge: object
) -> None:
    mirrors = [says(failure, until=4.0), well(0.01)]
    upstream = a_pipeline(*mirrors, retries=2, hedge=hedge)
    ended = await run(upstream, steady(0.1, 0.0, 15.0, lambda number: number))
    assert share_answered(ended) == 1.0
    assert max(one.seconds for one in ended) <= 0.01 + 0.025 + 0.01 + 1e-6
    asked = [at for at, _ in mirrors[0].began]
    assert asked[0] == 0.0
    assert [at for at in asked if 0 < at < 5] == []  # as it said, though it is well again at 4.0
    assert len([at for at in asked if at >= 5.01]) == pytest.approx(50, abs=3)


async def test_retry_after_of_both_mirrors_is_waited_for_if_it_fits() -> None:
    busy = UpstreamStatus(503, retry_after=1.0)
    mirrors = [says(busy, until=0.5), says(busy, until=0.5)]
    (ended,) = await run(a_pipeline(*mirrors, retries=2), steady(1.0, 0.0, 1.0))
    assert (ended.answered, ended.tally.retries) == (True, 2)
    assert 1.02 <= ended.seconds <= 1.06
    mirrors = [says(busy), says(busy)]
    (late,) = await run(a_pipeline(*mirrors, retries=2), steady(1.0, 2.0, 3.0, timeout=0.9))
    assert late.result is busy
    assert late.seconds < 0.1


async def test_retry_after_of_the_only_mirror_is_waited_for_if_it_fits() -> None:
    busy = UpstreamStatus(503, retry_after=1.0)
    upstream = a_pipeline(says(busy, until=0.5), retries=2)
    ended = await run(upstream, steady(1.0, 0.0, 1.0), steady(1.0, 0.0, 1.0, 1, timeout=0.9))
    assert [one.answered for one in ended] == [True, False]
    assert ended[0].seconds == pytest.approx(1.02)
    assert not isinstance(ended[1].result, Timeout)
