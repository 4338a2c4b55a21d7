"""The overview of a user: its questions, and real data in its documented models."""

import json

import pytest

from app.call import Answer, Tally
from app.composition.models import view_models
from app.composition.outcome import Outcome, Outcomes
from app.composition.result import ViewResult
from app.views.overview import overview
from tests.fakes import an_answer

SECTIONS = ("user", "posts", "todos")
USER = b'{"id":7,"name":"\xc3\x85sa \\"Weir\\"","username":"asa","email":"asa@example.org"}'
POST = b'{"userId":7,"id":1,"title":"t","body":"line\\nline"}'
TODO = b'{"userId":7,"id":2,"title":"t","completed":false}'
ANSWERS = {
    "user": an_answer(USER),
    "posts": an_answer(b"[%b,%b]" % (POST, POST), dropped=3),
    "todos": an_answer(b"[%b]" % TODO, stale=True),
}


def outcomes_of(**answers: Answer) -> Outcomes:
    return {name: Outcome(answer, Tally(attempts=1), 0.1) for name, answer in answers.items()}


def test_the_plan_has_the_questions_of_the_included_sections() -> None:
    plan = overview.plan(7, ["todos", "user"], ["user"])
    assert {name: question.target for name, question in plan.questions.items()} == {
        "user": "/users/7",
        "todos": "/todos?userId=7",
    }
    assert (plan.subject, tuple(plan.view.sections), plan.required) == (
        7,
        SECTIONS,
        frozenset({"user"}),
    )


@pytest.mark.parametrize("include", [("user",), SECTIONS])
def test_an_overview_is_what_its_model_documents(include: tuple[str, ...]) -> None:
    answers = {name: ANSWERS[name] for name in include}
    body = ViewResult(overview.plan(7, include, ()), outcomes_of(**answers)).to_json()
    overview_json, model = json.loads(body), view_models(overview).answer
    parsed = model.model_validate_json(body)
    assert parsed.model_dump(mode="json", exclude_unset=True) == overview_json
    assert (overview_json["user_id"], overview_json["complete"]) == (7, include == ("user",))
    assert {name: overview_json[name]["data"] for name in include} == {
        name: json.loads(answer.data.json) for name, answer in answers.items()
    }
