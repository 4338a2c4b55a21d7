"""The models of a view follow its sections, which are written once: here, a view has a fourth."""

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.api import sse
from app.call import Answer, Call, Fetch
from app.composition.models import view_models
from app.composition.result import ViewResult
from app.composition.scheduler import compose, gather
from app.composition.view import Plan, Section
from app.errors import Timeout
from app.server.request_state import RequestState
from tests.api.stream_client import parse_sse
from tests.fakes import A_VIEW, a_context, a_question, an_answer
from tests.in_process import validated

pytestmark = pytest.mark.anyio


class Album(BaseModel):
    title: str


ALBUMS = Section(list[Album], lambda _: a_question("albums"), [{"title": "t"}])
VIEW = replace(A_VIEW, sections={**A_VIEW.sections, "albums": ALBUMS})
MODELS = view_models(VIEW)

DATA = {"user": b"{}", "posts": b"[]", "todos": b"[]", "albums": b'[{"title":"t"}]'}
WITHOUT_ALBUMS = ("user", "posts", "todos")

with_albums = pytest.mark.parametrize(
    ("included", "failing", "status"),
    [(DATA, [], "ok"), (DATA, ["albums"], "failed"), (WITHOUT_ALBUMS, [], "skipped")],
    ids=["ok", "failed", "skipped"],
)


def a_plan(included: Collection[str] = DATA) -> Plan:
    return VIEW.plan(7, included, [])


def fetch_with(failing: Collection[str] = ()) -> Fetch:
    async def fetch(call: Call) -> Answer:
        if call.question.upstream in failing:
            raise Timeout("late")
        return an_answer(DATA[call.question.upstream])

    return fetch


async def answer_of(plan: Plan, failing: Collection[str] = ()) -> Any:
    outcomes = await gather(plan, a_context(), fetch_with(failing))
    return json.loads(ViewResult(plan, outcomes).to_json())


@with_albums
async def test_a_fourth_section_is_in_the_answer_model(
    included: Collection[str], failing: Collection[str], status: str
) -> None:
    answer = validated(await answer_of(a_plan(included), failing), MODELS.answer)
    assert list(answer) == ["user_id", "complete", "user", "posts", "todos", "albums"]
    assert answer["albums"]["status"] == status


@with_albums
async def test_a_fourth_section_is_in_the_sse_section_event(
    included: Collection[str], failing: Collection[str], status: str
) -> None:
    plan = a_plan(included)
    steps = compose([plan], a_context(), fetch_with(failing), lambda _: {}, at_once=4)
    state = RequestState(arrived=0.0, request_id="test")
    chunks = [chunk async for chunk in sse.events(plan, steps, state, recorder=None)]
    *events, (last, done) = parse_sse(b"".join(chunks).decode())
    sections = {
        data["name"]: data["section"]["status"]
        for name, data in events
        if name == "section" and validated(data, MODELS.section_event)
    }
    assert sections == {"user": "ok", "posts": "ok", "todos": "ok", "albums": status}
    assert last == "done"
    validated(done, MODELS.done_event)


@with_albums
async def test_a_fourth_section_is_in_the_batch_item(
    included: Collection[str], failing: Collection[str], status: str
) -> None:
    answer = await answer_of(a_plan(included), failing)
    item = {"user_id": 7, "status": "ok", "overview": answer}
    validated(item, MODELS.item)
    validated({"complete": answer["complete"], "items": [item]}, MODELS.batch)
    assert item["overview"]["albums"]["status"] == status


async def test_a_fourth_section_is_in_the_problem_of_a_failed_answer_and_batch_item() -> None:
    problem = validated(await answer_of(a_plan(), failing=VIEW.sections), MODELS.failed)
    assert list(problem["sections"]) == ["user", "posts", "todos", "albums"]
    validated({"user_id": 7, "status": "failed", "error": problem}, MODELS.item)


@pytest.mark.parametrize("albums", [None, {"status": "gone"}, {"status": "ok", "data": [{}]}])
async def test_the_models_accept_a_fourth_section_only_as_it_is_declared(albums: Any) -> None:
    answer = await answer_of(a_plan())
    del answer["albums"]
    wrong: list[tuple[type[BaseModel], Any]] = [
        (MODELS.answer, answer | ({} if albums is None else {"albums": albums})),
        (MODELS.section_event, {"name": "albums", "section": albums}),
    ]
    for model, value in wrong:
        with pytest.raises(ValidationError, match="albums"):
            model.model_validate(value)


def test_the_section_event_of_another_view_has_no_fourth_section() -> None:
    event = {"name": "albums", "section": {"status": "skipped"}}
    validated(event, MODELS.section_event)
    with pytest.raises(ValidationError, match="albums"):
        view_models(A_VIEW).section_event.model_validate(event)
