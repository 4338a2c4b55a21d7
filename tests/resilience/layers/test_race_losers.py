"""What is left of a race: its losers are cancelled and awaited, and no bug disappears."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from app.call import Answer, Call, Event
from app.resilience.budget import RetryBudget
from app.resilience.events import Hedging
from tests.fakes import a_call, now
from tests.resilience.races import (
    ABSENT,
    BROKEN,
    BUG,
    Mirror,
    racing,
    result_leaving_nothing,
)

pytestmark = pytest.mark.anyio

NEVER_ENDS = (60.0, BROKEN)


async def test_race_awaits_its_cancelled_losers_before_it_gives_the_answer() -> None:
    winner = Mirror((1.0, None))
    losers = [Mirror(NEVER_ENDS, closing=each) for each in (0.25, 0.5, 0.25)]
    fetch = racing(*losers, winner, hedge=0.0)
    assert await result_leaving_nothing(fetch(a_call())) is winner.answer
    assert [loser.closed for loser in losers] == [1, 1, 1]
    assert now() == 1.5


async def test_race_that_is_cancelled_leaves_nothing_in_flight() -> None:
    mirrors = [Mirror(NEVER_ENDS, closing=each) for each in (0.25, 0.5, 0.25)]
    result = await result_leaving_nothing(racing(*mirrors, hedge=0.25)(a_call()), 2.0)
    assert isinstance(result, asyncio.CancelledError)
    assert [mirror.closed for mirror in mirrors] == [1, 1, 1]
    assert now() == 2.5


@pytest.mark.parametrize("first", [(1.0, None), NEVER_ENDS], ids=["won", "not won"])
async def test_race_that_is_cancelled_while_its_losers_close_leaves_nothing_in_flight(
    first: tuple[float, Exception | None],
) -> None:
    mirrors = [Mirror(first), Mirror(NEVER_ENDS, closing=1.0), Mirror(NEVER_ENDS, closing=1.0)]
    result = await result_leaving_nothing(racing(*mirrors, hedge=0.0)(a_call()), 1.25, 0.25)
    assert isinstance(result, asyncio.CancelledError)
    assert [mirror.closed for mirror in mirrors[1:]] == [1, 1]


@pytest.mark.parametrize("hedge", [0.0, 0.25])
async def test_race_raises_a_bug_and_cancels_the_other_attempts(hedge: float) -> None:
    buggy, slow = Mirror((1.0, BUG)), Mirror(NEVER_ENDS, closing=0.5)
    fetch = racing(buggy, slow, hedge=hedge)
    assert await result_leaving_nothing(fetch(a_call())) is BUG
    assert (now(), slow.closed) == (1.5, 1)


class FailsWhenCancelled(Mirror):
    def __init__(self, error: Exception) -> None:
        super().__init__(NEVER_ENDS)
        self._error = error

    async def __call__(self, call: Call) -> Answer:
        try:
            return await super().__call__(call)
        except asyncio.CancelledError:
            raise self._error from None


@pytest.mark.parametrize(
    "loser",
    [lambda: Mirror((1.0, BUG)), lambda: FailsWhenCancelled(BUG)],
    ids=["at the same time", "when it is cancelled"],
)
async def test_race_raises_the_bug_of_a_loser(loser: Callable[[], Mirror]) -> None:
    winner, slow = Mirror((1.0, None)), Mirror(NEVER_ENDS, closing=0.5)
    fetch = racing(winner, loser(), slow, hedge=0.0)
    assert await result_leaving_nothing(fetch(a_call())) is BUG
    assert slow.closed == 1


async def test_race_ignores_a_loser_that_fails_when_it_is_cancelled() -> None:
    winner = Mirror((1.0, None))
    fetch = racing(winner, FailsWhenCancelled(BROKEN), hedge=0.0)
    assert await result_leaving_nothing(fetch(a_call())) is winner.answer


@pytest.mark.parametrize("seconds", [0.0, 1.0])
@pytest.mark.parametrize("ends", [(BROKEN, None, BROKEN), (None, ABSENT, None), (ABSENT, BROKEN)])
async def test_race_gives_an_answer_or_not_found_if_a_failure_comes_at_the_same_time(
    seconds: float, ends: Sequence[Exception | None]
) -> None:
    mirrors = [Mirror((seconds, end)) for end in ends]
    result = await result_leaving_nothing(racing(*mirrors, hedge=0.0)(a_call()))
    assert result in [ABSENT, *(mirror.answer for mirror in mirrors)]


async def test_hedge_does_not_go_out_if_an_answer_comes_at_the_same_time_as_a_failure(
    events: list[Event],
) -> None:
    broken, good, other = Mirror((1.0, BROKEN)), Mirror((0.25, None)), Mirror((0.0, None))
    call, budget = a_call(), RetryBudget(0.0)
    fetch = racing(broken, good, other, hedge=0.75, budget=budget, events=events)
    assert await result_leaving_nothing(fetch(call)) is good.answer
    assert (other.began, budget.balance, events) == ([], 9.0, [Hedging(call)])
