"""`ViewResult`: status and JSON of an answer. The status is checked against a naive reading of the
contract.
"""

import json
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
    Forbidden,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    Unauthorized,
    Unreachable,
    UpstreamStatus,
)
from tests.fakes import A_VIEW, a_question, an_answer

Results = Mapping[str, Answer | Failure]

SECTIONS = ("user", "posts", "todos")
OK = an_answer()
FAILURES: tuple[Failure, ...] = (
    Timeout("late"),
    Unreachable("broken"),
    UpstreamStatus(500),
    InvalidPayload("garbage"),
    CircuitOpen("open"),
    Overloaded("full"),
    Unauthorized(),
    Forbidden(),
)
NOT_FOUND = NotFound("nobody")


def contract_statuses(results: Results, included: set[str], required: set[str]) -> set[int]:
    """The contract, rule by rule. If two required sections failed, either status is right."""
    failed = {name: result for name, result in results.items() if isinstance(result, Failure)}
    if failed.get("user") is NOT_FOUND:
        return {404}
    if required & set(failed):
        return {failed[name].status for name in required & set(failed)}
    if set(failed) == included:
        reasons = {failure.reason for failure in failed.values()}
        if reasons <= {"unauthorized", "forbidden"}:
            return {401} if "unauthorized" in reasons else {403}
        if "timeout" in reasons:
            return {504}
        return {503} if reasons & {"circuit_open", "overloaded"} else {502}
    return {200}


def a_plan(included: Iterable[str], required: Iterable[str] = ()) -> Plan:
    return Plan(A_VIEW, 1, {name: a_question() for name in included}, frozenset(required))


def outcomes_of(results: Results) -> Mapping[str, Outcome]:
    return {name: Outcome(result, Tally(attempts=1), 0.1) for name, result in results.items()}


def status_of(results: Results, included: set[str], required: set[str]) -> int:
    return ViewResult(a_plan(included, required), outcomes_of(results)).status


@st.composite
def situations(draw: st.DrawFn) -> tuple[Results, set[str], set[str]]:
    """Results, included and required sections. Siblings of a decisive failure may lack a result."""
    included = draw(st.sets(st.sampled_from(SECTIONS), min_size=1))
    required = draw(st.sets(st.sampled_from(sorted(included))))
    results = {
        name: draw(st.sampled_from((OK, *FAILURES, *((NOT_FOUND,) if name == "user" else ()))))
        for name in draw(st.permutations(sorted(included)))
    }
    decisive = {
        name
        for name, result in results.items()
        if result is NOT_FOUND or (isinstance(result, Failure) and name in required)
    }
    if decisive:
        kept = draw(st.sampled_from(sorted(decisive)))
        cancelled = draw(st.sets(st.sampled_from(sorted(included)))) - {kept}
        results = {name: result for name, result in results.items() if name not in cancelled}
    return results, included, required


@given(situations())
def test_the_status_of_the_answer_follows_the_contract(
    situation: tuple[Results, set[str], set[str]],
) -> None:
    assert status_of(*situation) in contract_statuses(*situation)


@pytest.mark.parametrize(
    ("user", "posts", "todos", "status"),
    [
        (OK, OK, OK, 200),
        (OK, Timeout(""), CircuitOpen(""), 200),
        (Unreachable(""), UpstreamStatus(404), OK, 200),
        (NOT_FOUND, OK, OK, 404),
        (NOT_FOUND, Timeout(""), Timeout(""), 404),
        (Unreachable(""), Timeout(""), Overloaded(""), 504),
        (Unreachable(""), InvalidPayload(""), Overloaded(""), 503),
        (Unreachable(""), CircuitOpen(""), InvalidPayload(""), 503),
        (Unreachable(""), InvalidPayload(""), UpstreamStatus(503), 502),
        (Unauthorized(), Unauthorized(), Unauthorized(), 401),
        (Forbidden(), Forbidden(), Forbidden(), 403),
        (Forbidden(), Unauthorized(), Forbidden(), 401),
        (Unauthorized(), UpstreamStatus(500), Forbidden(), 502),
        (Unauthorized(), Overloaded(""), Forbidden(), 503),
        (Unauthorized(), Forbidden(), OK, 200),
    ],
)
def test_without_required_sections_only_a_404_or_all_failures_fail_the_answer(
    user: Answer | Failure, posts: Answer | Failure, todos: Answer | Failure, status: int
) -> None:
    results = {"user": user, "posts": posts, "todos": todos}
    assert status_of(results, set(SECTIONS), set()) == status


@pytest.mark.parametrize("failure", FAILURES)
def test_the_answer_has_the_status_of_a_failed_required_section(failure: Failure) -> None:
    assert status_of({"user": OK, "posts": failure}, set(SECTIONS), {"posts"}) == failure.status
    assert status_of({"user": OK, "posts": failure, "todos": OK}, set(SECTIONS), {"user"}) == 200


def test_a_404_goes_before_a_failed_required_section() -> None:
    results = {"posts": Timeout(""), "user": NOT_FOUND}
    assert status_of(results, set(SECTIONS), {"posts"}) == 404


@pytest.mark.parametrize(
    ("results", "included", "complete"),
    [
        ({"user": OK, "posts": OK, "todos": OK}, SECTIONS, True),
        ({"posts": OK}, ("posts",), True),
        ({"user": OK, "posts": Timeout(""), "todos": OK}, SECTIONS, False),
        ({"user": OK, "posts": an_answer(dropped=1), "todos": OK}, SECTIONS, False),
        ({"user": OK, "posts": an_answer(stale=True), "todos": OK}, SECTIONS, False),
        ({"user": OK, "posts": OK}, SECTIONS, False),
        ({"user": NOT_FOUND}, SECTIONS, False),
    ],
)
def test_complete_means_every_included_section_is_ok_not_stale_and_dropped_nothing(
    results: Results, included: tuple[str, ...], complete: bool
) -> None:
    assert ViewResult(a_plan(included), outcomes_of(results)).complete is complete


def test_a_stale_answer_to_a_required_section_is_no_failure_but_logged_as_stale() -> None:
    results: Results = {"user": an_answer(stale=True), "posts": Timeout(""), "todos": OK}
    assert status_of(results, set(SECTIONS), {"user"}) == 200
    assert ViewResult(a_plan(SECTIONS), outcomes_of(results)).log_fields()["stale"] == ["user"]


@pytest.mark.parametrize("include", [("user",), ("todos", "posts"), SECTIONS])
@pytest.mark.parametrize("result", [OK, Timeout("late")])
def test_the_keys_of_an_answer_never_change_nor_does_their_order(
    include: tuple[str, ...], result: Answer | Failure
) -> None:
    outcomes = outcomes_of(dict.fromkeys(include, result))
    body = json.loads(ViewResult(a_plan(include), outcomes).to_json())
    if isinstance(result, Answer):
        assert list(body) == ["user_id", "complete", "user", "posts", "todos"]
        sections = body
    else:
        sections = body["sections"]
        assert list(sections) == ["user", "posts", "todos"]
    skipped = {name for name in SECTIONS if sections[name] == {"status": "skipped"}}
    assert skipped == {*SECTIONS} - {*include}


def test_sections_cancelled_by_a_required_failure_are_skipped() -> None:
    result = ViewResult(a_plan(SECTIONS, ["user"]), outcomes_of({"user": Timeout("late")}))
    sections = json.loads(result.to_json())["sections"]
    assert sections["posts"] == sections["todos"] == {"status": "skipped"}
