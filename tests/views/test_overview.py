import json

import pytest

from app.call import Answer, Tally
from app.composition.models import view_models
from app.composition.outcome import Outcome, Outcomes
from app.composition.result import ViewResult
from app.composition.section import render_section
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
from app.views.overview import overview
from tests.fakes import an_answer

NAMES = ("user", "posts", "todos")
USER = b'{"id":7,"name":"\xc3\x85sa \\"Weir\\"","username":"asa","email":"asa@example.org"}'
POST = b'{"userId":7,"id":1,"title":"t","body":"line\\nline"}'
TODO = b'{"userId":7,"id":2,"title":"t","completed":false}'
ANSWERS = {
    "user": an_answer(USER),
    "posts": an_answer(b"[%b,%b]" % (POST, POST), dropped=3),
    "todos": an_answer(b"[%b]" % TODO, stale=True),
}
MODELS = view_models(overview)


def came_of(**results: Answer | Failure) -> Outcomes:
    return {name: Outcome(one, Tally(attempts=1), 0.1) for name, one in results.items()}


def sections_of(plan: Plan, outcomes: Outcomes) -> dict[str, bytes]:
    return {
        name: render_section(name, outcomes.get(name), plan.href) for name in plan.view.sections
    }


def test_the_questions_are_those_that_were_included() -> None:
    plan = overview.plan(7, ["todos", "user"], ["user"])
    assert {name: one.target for name, one in plan.questions.items()} == {
        "user": "/users/7",
        "todos": "/todos?userId=7",
    }
    assert (plan.subject, tuple(plan.view.sections), plan.required) == (
        7,
        NAMES,
        frozenset({"user"}),
    )


@pytest.mark.parametrize("include", [("user",), NAMES])
def test_the_answer_is_what_its_documentation_says(include: tuple[str, ...]) -> None:
    answers = {name: ANSWERS[name] for name in include}
    body = ViewResult(overview.plan(7, include, ()), came_of(**answers)).to_json()
    told, model = json.loads(body), MODELS.answer
    assert model.model_validate_json(body).model_dump(mode="json", exclude_unset=True) == told
    assert (told["user_id"], told["complete"]) == (7, include == ("user",))


def test_each_section_says_what_its_answer_was() -> None:
    told = json.loads(ViewResult(overview.plan(7, NAMES, ()), came_of(**ANSWERS)).to_json())
    assert {name: told[name]["data"] for name in NAMES} == {
        name: json.loads(answer.data.json) for name, answer in ANSWERS.items()
    }
    assert [told[name]["dropped"] for name in NAMES] == [0, 3, 0]
    assert [told[name]["stale"] for name in NAMES] == [False, False, True]
    assert all(told[name]["as_of"] == "2023-11-14T22:13:20Z" for name in NAMES)


@pytest.mark.parametrize("include", [("user",), ("todos", "posts"), NAMES])
@pytest.mark.parametrize("result", [an_answer(), Timeout("late")])
def test_the_keys_never_change_nor_does_their_order(
    include: tuple[str, ...], result: Answer | Failure
) -> None:
    plan = overview.plan(7, include, ())
    outcomes = came_of(**dict.fromkeys(include, result))
    told = json.loads(ViewResult(plan, outcomes).to_json())
    if isinstance(result, Answer):
        assert list(told) == ["user_id", "complete", "user", "posts", "todos"]
    else:
        told = told["sections"]
        assert list(told) == ["user", "posts", "todos"]
    assert {name for name in NAMES if told[name] == {"status": "skipped"}} == {*NAMES} - {*include}


def test_what_was_given_up_is_told_as_skipped() -> None:
    plan = overview.plan(7, NAMES, ("user",))
    sections = sections_of(plan, came_of(user=Timeout("late")))
    assert sections["posts"] == sections["todos"] == b'{"status":"skipped"}'


def test_an_empty_list_is_ok() -> None:
    plan = overview.plan(7, ("posts",), ())
    section = json.loads(sections_of(plan, came_of(posts=an_answer(b"[]")))["posts"])
    assert (section["status"], section["data"]) == ("ok", [])


@pytest.mark.parametrize(
    ("failure", "status", "retryable"),
    [
        (Timeout("late"), 504, True),
        (Unreachable("broken"), 502, True),
        (UpstreamStatus(500), 502, True),
        (UpstreamStatus(408), 502, True),
        (UpstreamStatus(403), 502, False),
        (UpstreamStatus(302), 502, False),
        (InvalidPayload("garbage"), 502, False),
        (NotFound("nobody"), 404, False),
        (CircuitOpen("resting", retry_after=2.5), 503, True),
        (Overloaded("full", retry_after=7), 503, True),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_a_failed_section_says_all_about_it(
    name: str, failure: Failure, status: int, retryable: bool
) -> None:
    outcome = Outcome(failure, Tally(attempts=1), 1.8044)
    body = sections_of(overview.plan(7, NAMES, ()), {name: outcome})[name]
    event = {"name": name, "section": json.loads(body)}
    assert MODELS.section_event.model_validate(event).model_dump(mode="json") == event
    assert json.loads(body) == {
        "status": "failed",
        "error": {
            "type": f"/problems/{failure.reason}",
            "title": failure.title,
            "status": status,
            "detail": f"{name}: {failure.detail}",
            "reason": failure.reason,
            "section": name,
            "attempts": 1,
            "elapsed_ms": 1804,
            "retryable": retryable,
            "retry_after": failure.retry_after,
            "href": f"/v1/users/7/overview?include={name}",
        },
    }


def test_more_than_one_attempt_is_worth_a_word() -> None:
    outcome = Outcome(Timeout("no answer within 0.8 s"), Tally(attempts=3), 1.8)
    body = sections_of(overview.plan(7, NAMES, ()), {"posts": outcome})["posts"]
    assert json.loads(body)["error"]["detail"] == "posts: no answer within 0.8 s, 3 attempts"
