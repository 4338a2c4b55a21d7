"""`gather`: every question of a plan at once."""

import asyncio

import pytest

from app.call import Answer, Call, Fetch, Tally
from app.composition.outcome import Outcome, cached_outcomes
from app.composition.scheduler import gather
from app.composition.view import Plan
from app.errors import Failure, NotFound, Timeout, Unreachable
from tests.fakes import (
    A_VIEW,
    FakeUpstream,
    a_context,
    a_question,
    an_answer,
    counting_attempts,
    now,
    result_or_error,
)

pytestmark = pytest.mark.anyio

NAMES = ("user", "posts", "todos")


def a_plan(*required: str, asked: tuple[str, ...] = NAMES) -> Plan:
    return Plan(A_VIEW, 1, {name: a_question(name) for name in asked}, frozenset(required))


def each_to_its_own(**upstreams: Fetch) -> Fetch:
    async def fetch(call: Call) -> Answer:
        return await upstreams[call.question.upstream](call)

    return fetch


async def test_all_questions_are_asked_at_once() -> None:
    upstream = FakeUpstream(seconds=1)
    outcomes = await gather(a_plan(), a_context(), upstream)
    assert upstream.began == [0, 0, 0]
    assert set(outcomes) == set(NAMES)


async def test_the_whole_takes_as_long_as_the_slowest_part() -> None:
    fetch = each_to_its_own(user=FakeUpstream(1), posts=FakeUpstream(3), todos=FakeUpstream(2))
    await gather(a_plan(), a_context(), fetch)
    assert now() == 3.0


async def test_a_failed_section_does_not_fail_the_view() -> None:
    failure = Unreachable("broken")
    fetch = each_to_its_own(
        user=counting_attempts(FakeUpstream(2)),
        posts=counting_attempts(FakeUpstream(1, failure)),
        todos=FakeUpstream(2),
    )
    outcomes = await gather(a_plan(), a_context(), fetch)
    assert {name: one.result for name, one in outcomes.items()} == {
        "user": an_answer(),
        "posts": failure,
        "todos": an_answer(),
    }
    assert {name: one.tally.attempts for name, one in outcomes.items()} == {
        "user": 1,
        "posts": 1,
        "todos": 0,
    }


async def test_what_was_not_included_is_not_asked() -> None:
    upstream = FakeUpstream()
    outcomes = await gather(a_plan(asked=("todos",)), a_context(), upstream)
    assert (list(outcomes), len(upstream.began)) == (["todos"], 1)


async def test_what_was_found_is_an_outcome_already_and_not_asked() -> None:
    upstream, stored = FakeUpstream(seconds=1), an_answer(b"[1]")

    def found(call: Call) -> Answer | None:
        if call.question.upstream == "user":
            return None
        call.tally.cache = "hit"
        return stored

    outcomes = cached_outcomes(a_plan(), a_context(), found)
    assert outcomes == dict.fromkeys(("posts", "todos"), Outcome(stored, Tally(cache="hit"), 0.0))
    whole = await gather(a_plan(), a_context(), upstream, outcomes)
    assert len(upstream.began) == 1
    assert {name: one.result for name, one in whole.items()} == {
        "user": an_answer(),
        "posts": stored,
        "todos": stored,
    }


async def test_what_was_found_is_kept_when_the_whole_is_decided() -> None:
    found = {"posts": Outcome(an_answer(), Tally(), 0.0)}
    fetch = each_to_its_own(user=FakeUpstream(1, NotFound("nobody")), todos=FakeUpstream(60))
    outcomes = await gather(a_plan(), a_context(), fetch, found)
    assert (set(outcomes), now()) == ({"user", "posts"}, 1.0)


@pytest.mark.parametrize(
    ("required", "failing", "failure"),
    [
        (["posts"], "posts", Unreachable("broken")),
        (["user", "posts", "todos"], "todos", Timeout("late")),
        ([], "user", NotFound("nobody")),
        (["posts"], "user", NotFound("nobody")),
    ],
)
async def test_what_decides_the_whole_ends_the_rest_at_once(
    required: list[str], failing: str, failure: Failure
) -> None:
    others = FakeUpstream(seconds=60)
    upstreams = dict.fromkeys(NAMES, others) | {failing: FakeUpstream(1, failure)}
    outcomes = await gather(a_plan(*required), a_context(), each_to_its_own(**upstreams))
    assert now() == 1.0
    assert [(name, one.result) for name, one in outcomes.items()] == [(failing, failure)]
    assert (others.cancelled, others.in_flight) == (2, 0)


async def test_what_was_there_before_the_decision_is_kept() -> None:
    fetch = each_to_its_own(
        user=FakeUpstream(1), posts=FakeUpstream(2, Unreachable("broken")), todos=FakeUpstream(60)
    )
    outcomes = await gather(a_plan("posts"), a_context(), fetch)
    assert list(outcomes) == ["user", "posts"]


async def test_cancelled_siblings_are_awaited_however_long_they_take_to_leave() -> None:
    left = False

    async def slow_to_leave(_: Call) -> Answer:
        nonlocal left
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(5)
            left = True
        return an_answer()

    fetch = each_to_its_own(
        user=FakeUpstream(1, NotFound("nobody")), posts=slow_to_leave, todos=FakeUpstream()
    )
    await gather(a_plan(), a_context(), fetch)
    assert left
    assert now() == 6.0


@pytest.mark.parametrize("required", [[], ["posts"], ["todos"]])
async def test_a_bug_surfaces_and_is_never_a_section(required: list[str]) -> None:
    others = FakeUpstream(seconds=60)
    bug = ZeroDivisionError("ours")
    fetch = each_to_its_own(user=others, posts=FakeUpstream(1, bug), todos=others)
    error = await result_or_error(gather(a_plan(*required), a_context(), fetch))
    assert error is bug
    assert (now(), others.in_flight) == (1.0, 0)


async def test_a_bug_met_on_the_way_out_surfaces_too() -> None:
    async def clumsy(_: Call) -> Answer:
        try:
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError("ours")

    fetch = each_to_its_own(
        user=FakeUpstream(1, NotFound("nobody")), posts=clumsy, todos=FakeUpstream(60)
    )
    error = await result_or_error(gather(a_plan(), a_context(), fetch))
    assert isinstance(error, ZeroDivisionError)


async def test_two_that_decide_at_once_are_one_decision() -> None:
    upstream = FakeUpstream(1, Timeout("late"))
    outcomes = await gather(a_plan(*NAMES), a_context(), upstream)
    assert outcomes
    assert all(isinstance(one.result, Timeout) for one in outcomes.values())
    assert now() == 1.0


async def test_a_cancellation_from_outside_cancels_everything() -> None:
    upstream = FakeUpstream(seconds=60)
    task = asyncio.ensure_future(gather(a_plan(), a_context(), upstream))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    assert task.cancelled()
    assert (upstream.cancelled, upstream.in_flight, now()) == (3, 0, 1.0)
