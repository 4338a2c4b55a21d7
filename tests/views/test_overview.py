import json

import pytest
from pydantic import TypeAdapter

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
from app.resilience.call import Answer, Tally
from app.views.overview import (
    Overview,
    PostsSection,
    TodosSection,
    UserSection,
    overview,
    overview_json,
    section_json,
)
from app.views.plan import Outcome, Outcomes
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
SECTIONS: dict[str, TypeAdapter[object]] = {
    "user": TypeAdapter(UserSection),
    "posts": TypeAdapter(PostsSection),
    "todos": TypeAdapter(TodosSection),
}


def came_of(**results: Answer | Failure) -> Outcomes:
    return {name: Outcome(one, Tally(attempts=1), 0.1) for name, one in results.items()}


def test_the_questions_are_those_that_were_included() -> None:
    plan = overview(7, ["todos", "user"], ["user"])
    assert {name: one.target for name, one in plan.questions.items()} == {
        "user": "/users/7",
        "todos": "/todos?userId=7",
    }
    assert (plan.subject, plan.sections, plan.required) == (7, NAMES, frozenset({"user"}))


@pytest.mark.parametrize("complete", [True, False])
def test_the_answer_is_what_its_documentation_says(complete: bool) -> None:
    plan = overview(7, NAMES, ())
    body = overview_json(plan, complete, section_json(plan, came_of(**ANSWERS)))
    told = json.loads(body)
    assert Overview.model_validate_json(body).model_dump(mode="json", exclude_unset=True) == told
    assert (told["user_id"], told["complete"]) == (7, complete)
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
    plan = overview(7, include, ())
    outcomes = came_of(**dict.fromkeys(include, result))
    told = json.loads(overview_json(plan, True, section_json(plan, outcomes)))
    assert list(told) == ["user_id", "complete", "user", "posts", "todos"]
    assert {name for name in NAMES if told[name] == {"status": "skipped"}} == {*NAMES} - {*include}


def test_what_was_given_up_is_told_as_skipped() -> None:
    plan = overview(7, NAMES, ("user",))
    sections = section_json(plan, came_of(user=Timeout("late")))
    assert sections["posts"] == sections["todos"] == b'{"status":"skipped"}'


def test_an_empty_list_is_ok() -> None:
    plan = overview(7, ("posts",), ())
    section = json.loads(section_json(plan, came_of(posts=an_answer(b"[]")))["posts"])
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
    body = section_json(overview(7, NAMES, ()), {name: outcome})[name]
    assert SECTIONS[name].dump_json(SECTIONS[name].validate_json(body)) == body
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
    body = section_json(overview(7, NAMES, ()), {"posts": outcome})["posts"]
    assert json.loads(body)["error"]["detail"] == "posts: no answer within 0.8 s, 3 attempts"
