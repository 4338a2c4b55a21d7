import asyncio
from collections.abc import Sequence

import pytest

from app.call import Answer, Call, Event
from app.errors import (
    CircuitOpen,
    Failure,
    Forbidden,
    InvalidPayload,
    NotConfirmed,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.budget import RetryBudget
from app.resilience.events import Retrying
from app.resilience.key_failures import KeyFailures
from tests.fakes import FakeUpstream, a_call, now, result_or_error
from tests.resilience.layers.retries import Scripted, a_round_robin, retried
from tests.resilience.states import a_budget_of, failed

pytestmark = pytest.mark.anyio

BROKEN = Unreachable("broken")


async def test_retry_passes_on_a_good_answer_and_withdraws_no_budget(events: list[Event]) -> None:
    upstream, budget, call = FakeUpstream(), RetryBudget(0.0), a_call()
    assert isinstance(await retried(upstream, events, budget=budget)(call), Answer)
    assert (upstream.began, budget.balance, call.tally.retries, events) == ([0.0], 10.0, 0, [])


ANY_MIRROR = [
    Timeout("late"),
    Unreachable("broken"),
    UpstreamStatus(500),
    UpstreamStatus(503),
    UpstreamStatus(408),
    TooManyRequests("429"),
]
NEVER = [
    UpstreamStatus(302),
    UpstreamStatus(400),
    UpstreamStatus(404),
    NotFound("there is no such resource"),
    Unauthorized(),
    Forbidden(),
    NotConfirmed("another one"),
    CircuitOpen("resting", retry_after=0.1),
    Overloaded("no capacity", retry_after=0.1),
]
OTHER_MIRROR = InvalidPayload("garbage")


@pytest.mark.parametrize(
    ("failure", "mirrors", "attempts"),
    [
        *((failure, mirrors, 2) for failure in ANY_MIRROR for mirrors in (1, 2)),
        *((failure, mirrors, 1) for failure in NEVER for mirrors in (1, 2)),
        (OTHER_MIRROR, 2, 2),
        (OTHER_MIRROR, 1, 1),
    ],
    ids=repr,
)
async def test_retry_follows_a_failure_only_where_another_attempt_may_succeed(
    events: list[Event], failure: Failure, mirrors: int, attempts: int
) -> None:
    upstream, call = Scripted(failure, None), a_call()
    result = await result_or_error(retried(upstream, events, turns=a_round_robin(mirrors))(call))
    assert len(upstream.began) == attempts
    assert isinstance(result, Answer) if attempts == 2 else result is failure
    assert call.tally.retries == len(events) == attempts - 1


def test_retry_is_tested_with_every_kind_of_failure() -> None:
    kinds = {type(failure) for failure in [*ANY_MIRROR, *NEVER, OTHER_MIRROR]}
    assert kinds == {
        *Failure.__subclasses__(),
        *Overloaded.__subclasses__(),
        *InvalidPayload.__subclasses__(),
    }


async def test_retry_does_not_follow_a_bug(events: list[Event]) -> None:
    bug = ZeroDivisionError()
    upstream = Scripted(bug, None)
    assert await result_or_error(retried(upstream, events)(a_call())) is bug
    assert (upstream.began, events) == ([0.0], [])


@pytest.mark.parametrize("random", [0.0, 0.5, 1.0])
async def test_retry_backoff_is_random_up_to_a_bound_that_doubles_to_a_quarter_of_a_second(
    events: list[Event], random: float
) -> None:
    upstream, call = Scripted(BROKEN), a_call()
    result = await result_or_error(
        retried(upstream, events, retries=6, random=lambda: random)(call)
    )
    backoffs = [random * bound for bound in (0.025, 0.05, 0.1, 0.2, 0.25, 0.25)]
    assert result is BROKEN
    assert upstream.began == pytest.approx([sum(backoffs[:n]) for n in range(7)])
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [event.seconds for event in retries] == pytest.approx(backoffs)
    assert events == [Retrying(call, BROKEN, event.seconds) for event in retries]


async def test_retry_backoff_of_each_call_begins_with_the_shortest() -> None:
    fetch = retried(Scripted(BROKEN), retries=1)
    for n in range(1, 4):
        await result_or_error(fetch(a_call()))
        assert now() == pytest.approx(n * 0.025)


@pytest.mark.parametrize("retries", [0, 1, 2, 10])
async def test_retry_makes_at_most_so_many_more_attempts(retries: int) -> None:
    upstream, call = Scripted(BROKEN), a_call()
    assert await result_or_error(retried(upstream, retries=retries)(call)) is BROKEN
    assert (len(upstream.began), call.tally.retries) == (retries + 1, retries)


LONG, SHORT = Timeout("no answer within 0.8 s", allotted=0.8), Timeout("within 0.3 s", allotted=0.3)


@pytest.mark.parametrize(
    ("failures", "raised"),
    [
        ((BROKEN, UpstreamStatus(503)), 1),
        ((LONG, BROKEN), 1),
        ((BROKEN, SHORT), 1),
        ((SHORT, LONG), 1),
        ((LONG, SHORT), 0),
        ((SHORT, LONG, BROKEN, SHORT), 1),
    ],
    ids=repr,
)
async def test_retry_raises_the_last_failure_but_of_timeouts_the_longest(
    failures: Sequence[Failure], raised: int
) -> None:
    fetch = retried(Scripted(*failures), retries=len(failures) - 1)
    assert await result_or_error(fetch(a_call())) is failures[raised]


async def test_retry_is_not_begun_for_a_call_that_was_cancelled_during_the_backoff() -> None:
    upstream = Scripted(TooManyRequests("429", retry_after=1.0), None)
    task = asyncio.ensure_future(retried(upstream)(a_call()))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(5)
    assert task.cancelled()
    assert upstream.began == [0.0]


@pytest.mark.parametrize("failure", [BROKEN, UpstreamStatus(503), Timeout("late")], ids=repr)
@pytest.mark.parametrize("times", [3, 9])
async def test_retry_does_not_follow_a_failure_of_a_key_that_only_fails_and_has_counted_enough(
    events: list[Event], failure: Failure, times: int
) -> None:
    upstream, call = Scripted(failure, None), a_call()
    failures = failed(KeyFailures(), call, times)
    fetch = retried(upstream, events, failures=failures, budget=a_budget_of(0))
    assert await result_or_error(fetch(call)) is failure
    assert (upstream.began, events) == ([0.0], [])  # nor does it ask the budget


async def test_retry_reaches_every_mirror_though_the_key_has_come_into_quarantine_meanwhile() -> (
    None
):
    upstream, call = Scripted(*[BROKEN] * 5, None), a_call()
    failures = failed(KeyFailures(), call, 1)

    async def counted(call: Call) -> Answer:
        failures.on_failure(call.key, now())
        return await upstream(call)

    fetch = retried(counted, retries=5, failures=failures)
    assert isinstance(await fetch(call), Answer)
    assert (failures.is_quarantined(call.key), call.tally.retries) == (True, 5)


async def test_retry_follows_a_failure_of_a_key_that_fails_now_and_then() -> None:
    """It has counted enough for others, but may be well on another mirror."""
    upstream, call = Scripted(BROKEN, None), a_call()
    failures = failed(KeyFailures(), call, 3)
    failures.on_success(call.key, 0.0)
    failed(failures, call, 1)
    assert isinstance(await retried(upstream, failures=failures)(call), Answer)
    failed(failures, call, 1)  # on both mirrors, and without a success
    assert await result_or_error(retried(Scripted(BROKEN), failures=failures)(call)) is BROKEN
