"""`gather`: the calls of one plan, all at once."""

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

SECTIONS = ("user", "posts", "todos")


def a_plan(*required: str, included: tuple[str, ...] = SECTIONS) -> Plan:
    return Plan(A_VIEW, 1, {name: a_question(name) for name in included}, frozenset(required))


def by_upstream(**upstreams: Fetch) -> Fetch:
    """A fetch that hands each call to the fake of its upstream."""

    async def fetch(call: Call) -> Answer:
        return await upstreams[call.question.upstream](call)

    return fetch


async def test_gather_starts_all_calls_at_once() -> None:
    upstream = FakeUpstream(seconds=1)
    outcomes = await gather(a_plan(), a_context(), upstream)
    assert upstream.began == [0, 0, 0]
    assert set(outcomes) == set(SECTIONS)


async def test_gather_takes_as_long_as_its_slowest_section() -> None:
    fetch = by_upstream(user=FakeUpstream(1), posts=FakeUpstream(3), todos=FakeUpstream(2))
    await gather(a_plan(), a_context(), fetch)
    assert now() == 3.0


async def test_gather_returns_a_failure_beside_the_other_sections() -> None:
    failure = Unreachable("broken")
    fetch = by_upstream(
        user=counting_attempts(FakeUpstream(2)),
        posts=counting_attempts(FakeUpstream(1, failure)),
        todos=FakeUpstream(2),
    )
    outcomes = await gather(a_plan(), a_context(), fetch)
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        "user": an_answer(),
        "posts": failure,
        "todos": an_answer(),
    }
    assert {name: outcome.tally.attempts for name, outcome in outcomes.items()} == {
        "user": 1,
        "posts": 1,
        "todos": 0,
    }


async def test_a_section_that_is_not_included_is_not_fetched() -> None:
    upstream = FakeUpstream()
    outcomes = await gather(a_plan(included=("todos",)), a_context(), upstream)
    assert (list(outcomes), len(upstream.began)) == (["todos"], 1)


async def test_a_cached_section_is_an_outcome_and_not_fetched() -> None:
    upstream, stored = FakeUpstream(seconds=1), an_answer(b"[1]")

    def lookup(call: Call) -> Answer | None:
        if call.question.upstream == "user":
            return None
        call.tally.cache = "hit"
        return stored

    cached = cached_outcomes(a_plan(), a_context(), lookup)
    assert cached == dict.fromkeys(("posts", "todos"), Outcome(stored, Tally(cache="hit"), 0.0))
    outcomes = await gather(a_plan(), a_context(), upstream, cached)
    assert len(upstream.began) == 1
    assert {name: outcome.result for name, outcome in outcomes.items()} == {
        "user": an_answer(),
        "posts": stored,
        "todos": stored,
    }


async def test_a_cached_outcome_is_kept_when_a_404_decides_the_plan() -> None:
    cached = {"posts": Outcome(an_answer(), Tally(), 0.0)}
    fetch = by_upstream(user=FakeUpstream(1, NotFound("nobody")), todos=FakeUpstream(60))
    outcomes = await gather(a_plan(), a_context(), fetch, cached)
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
async def test_a_required_failure_or_a_404_cancels_the_sibling_calls(
    required: list[str], failing: str, failure: Failure
) -> None:
    others = FakeUpstream(seconds=60)
    upstreams = dict.fromkeys(SECTIONS, others) | {failing: FakeUpstream(1, failure)}
    outcomes = await gather(a_plan(*required), a_context(), by_upstream(**upstreams))
    assert now() == 1.0
    assert [(name, outcome.result) for name, outcome in outcomes.items()] == [(failing, failure)]
    assert (others.cancelled, others.in_flight) == (2, 0)


async def test_outcomes_completed_before_a_required_failure_are_kept() -> None:
    fetch = by_upstream(
        user=FakeUpstream(1), posts=FakeUpstream(2, Unreachable("broken")), todos=FakeUpstream(60)
    )
    outcomes = await gather(a_plan("posts"), a_context(), fetch)
    assert list(outcomes) == ["user", "posts"]


async def test_cancelled_siblings_are_awaited_however_long_their_cleanup_takes() -> None:
    cleaned_up = False

    async def slow_to_clean_up(_: Call) -> Answer:
        nonlocal cleaned_up
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(5)
            cleaned_up = True
        return an_answer()

    fetch = by_upstream(
        user=FakeUpstream(1, NotFound("nobody")), posts=slow_to_clean_up, todos=FakeUpstream()
    )
    await gather(a_plan(), a_context(), fetch)
    assert cleaned_up
    assert now() == 6.0


@pytest.mark.parametrize("required", [[], ["posts"], ["todos"]])
async def test_a_bug_is_raised_and_never_becomes_a_failed_section(required: list[str]) -> None:
    others = FakeUpstream(seconds=60)
    bug = ZeroDivisionError("ours")
    fetch = by_upstream(user=others, posts=FakeUpstream(1, bug), todos=others)
    error = await result_or_error(gather(a_plan(*required), a_context(), fetch))
    assert error is bug
    assert (now(), others.in_flight) == (1.0, 0)


async def test_a_bug_during_the_cancellation_is_raised_too() -> None:
    async def raising_when_cancelled(_: Call) -> Answer:
        try:
            await asyncio.sleep(60)
        finally:
            raise ZeroDivisionError("ours")

    fetch = by_upstream(
        user=FakeUpstream(1, NotFound("nobody")),
        posts=raising_when_cancelled,
        todos=FakeUpstream(60),
    )
    error = await result_or_error(gather(a_plan(), a_context(), fetch))
    assert isinstance(error, ZeroDivisionError)


async def test_required_failures_at_the_same_instant_end_the_plan_once() -> None:
    upstream = FakeUpstream(1, Timeout("late"))
    outcomes = await gather(a_plan(*SECTIONS), a_context(), upstream)
    assert outcomes
    assert all(isinstance(outcome.result, Timeout) for outcome in outcomes.values())
    assert now() == 1.0


async def test_cancelling_gather_cancels_every_call() -> None:
    upstream = FakeUpstream(seconds=60)
    task = asyncio.ensure_future(gather(a_plan(), a_context(), upstream))
    await asyncio.sleep(1)
    task.cancel()
    await result_or_error(task)
    assert task.cancelled()
    assert (upstream.cancelled, upstream.in_flight, now()) == (3, 0, 1.0)
