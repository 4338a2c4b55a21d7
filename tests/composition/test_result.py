"""What the outcomes amount to; the status is held against a naive reading of the rules."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Tally
from app.composition.outcome import Outcome
from app.composition.result import ViewResult
from app.composition.view import Plan
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)
from tests.fakes import A_VIEW, a_question, an_answer

Results = Mapping[str, Answer | Failure]

NAMES = ("user", "posts", "todos")
OK = an_answer()
FAILURES: tuple[Failure, ...] = (
    Timeout("late"),
    Unreachable("broken"),
    UpstreamStatus(500),
    InvalidPayload("garbage"),
    CircuitOpen("resting"),
    Overloaded("full"),
)
NOBODY = NotFound("nobody")


def status_of_the_whole(results: Results, included: set[str], required: set[str]) -> set[int]:
    """The contract, sentence by sentence; where two required sections failed, either will do."""
    failed = {name: one for name, one in results.items() if isinstance(one, Failure)}
    if failed.get("user") is NOBODY:
        return {404}
    if required & set(failed):
        return {failed[name].status for name in required & set(failed)}
    if set(failed) == included:
        reasons = {failure.reason for failure in failed.values()}
        if "timeout" in reasons:
            return {504}
        return {503} if reasons & {"circuit_open", "overloaded"} else {502}
    return {200}


def planned(included: Iterable[str], required: Iterable[str] = ()) -> Plan:
    return Plan(A_VIEW, 1, {name: a_question() for name in included}, frozenset(required))


def came_of(results: Results) -> Mapping[str, Outcome]:
    return {name: Outcome(one, Tally(attempts=1), 0.1) for name, one in results.items()}


def judged(results: Results, included: set[str], required: set[str]) -> int:
    return ViewResult(planned(included, required), came_of(results)).status


@st.composite
def situations(draw: st.DrawFn) -> tuple[Results, set[str], set[str]]:
    """What may have come of a plan; what decides the whole leaves some siblings without outcome."""
    included = draw(st.sets(st.sampled_from(NAMES), min_size=1))
    required = draw(st.sets(st.sampled_from(sorted(included))))
    results = {
        name: draw(st.sampled_from((OK, *FAILURES, *((NOBODY,) if name == "user" else ()))))
        for name in draw(st.permutations(sorted(included)))
    }
    decisive = {
        name
        for name, one in results.items()
        if one is NOBODY or (isinstance(one, Failure) and name in required)
    }
    if decisive:
        keep = draw(st.sampled_from(sorted(decisive)))
        given_up = draw(st.sets(st.sampled_from(sorted(included)))) - {keep}
        results = {name: one for name, one in results.items() if name not in given_up}
    return results, included, required


@given(situations())
def test_the_status_of_the_whole_is_what_the_rules_say(
    situation: tuple[Results, set[str], set[str]],
) -> None:
    assert judged(*situation) in status_of_the_whole(*situation)


@pytest.mark.parametrize(
    ("user", "posts", "todos", "status"),
    [
        (OK, OK, OK, 200),
        (OK, Timeout(""), CircuitOpen(""), 200),
        (Unreachable(""), UpstreamStatus(404), OK, 200),
        (NOBODY, OK, OK, 404),
        (NOBODY, Timeout(""), Timeout(""), 404),
        (Unreachable(""), Timeout(""), Overloaded(""), 504),
        (Unreachable(""), InvalidPayload(""), Overloaded(""), 503),
        (Unreachable(""), CircuitOpen(""), InvalidPayload(""), 503),
        (Unreachable(""), InvalidPayload(""), UpstreamStatus(503), 502),
    ],
)
def test_without_requirements_only_everything_fails_the_whole(
    user: Answer | Failure, posts: Answer | Failure, todos: Answer | Failure, status: int
) -> None:
    results = {"user": user, "posts": posts, "todos": todos}
    assert judged(results, set(NAMES), set()) == status


@pytest.mark.parametrize("failure", FAILURES)
def test_a_required_section_lends_its_status_to_the_whole(failure: Failure) -> None:
    assert judged({"user": OK, "posts": failure}, set(NAMES), {"posts"}) == failure.status
    assert judged({"user": OK, "posts": failure, "todos": OK}, set(NAMES), {"user"}) == 200


def test_a_user_who_does_not_exist_goes_before_what_is_required() -> None:
    results = {"posts": Timeout(""), "user": NOBODY}
    assert judged(results, set(NAMES), {"posts"}) == 404


@pytest.mark.parametrize(
    ("results", "included", "complete"),
    [
        ({"user": OK, "posts": OK, "todos": OK}, NAMES, True),
        ({"posts": OK}, ("posts",), True),
        ({"user": OK, "posts": Timeout(""), "todos": OK}, NAMES, False),
        ({"user": OK, "posts": an_answer(dropped=1), "todos": OK}, NAMES, False),
        ({"user": OK, "posts": an_answer(stale=True), "todos": OK}, NAMES, False),
        ({"user": OK, "posts": OK}, NAMES, False),
        ({"user": NOBODY}, NAMES, False),
    ],
)
def test_complete_is_every_included_section_with_all_of_its_data_as_it_is_now(
    results: Results, included: tuple[str, ...], complete: bool
) -> None:
    assert ViewResult(planned(included), came_of(results)).complete is complete


def test_what_stands_in_for_a_failure_is_no_failure_but_stale() -> None:
    results: Results = {"user": an_answer(stale=True), "posts": Timeout(""), "todos": OK}
    assert judged(results, set(NAMES), {"user"}) == 200
    assert ViewResult(planned(NAMES), came_of(results)).log_fields()["stale"] == ["user"]
