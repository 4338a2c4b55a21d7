"""The sources: questions, models of resources, and decoding."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from app.call import Question
from app.errors import InvalidPayload
from app.sources.posts import Post, posts_by
from app.sources.resource import Resource
from app.sources.todos import Todo, todos_of
from app.sources.users import User, user

MAX_ID = 2**53 - 1  # Number.MAX_SAFE_INTEGER of JavaScript

USER: dict[str, Any] = {"id": 1, "name": "n", "username": "u", "email": "e"}
POST: dict[str, Any] = {"userId": 1, "id": 1, "title": "t", "body": "b"}
TODO: dict[str, Any] = {"userId": 1, "id": 1, "title": "t", "completed": False}
PROFILE: dict[str, Any] = {
    "address": {
        "street": "s",
        "suite": "s",
        "city": "c",
        "zipcode": "z",
        "geo": {"lat": "1", "lng": "2"},
    },
    "phone": "p",
    "website": "w",
    "company": {"name": "n", "catchPhrase": "c", "bs": "b"},
}


@pytest.mark.parametrize(
    ("question", "upstream", "target", "not_found_on_404"),
    [
        (user(7), "users", "/users/7", True),
        (posts_by(7), "posts", "/posts?userId=7", False),
        (todos_of(MAX_ID), "todos", "/todos?userId=9007199254740991", False),
    ],
)
def test_a_question_has_its_upstream_and_target(
    question: Question, upstream: str, target: str, not_found_on_404: bool
) -> None:
    assert (question.upstream, question.target) == (upstream, target)
    assert question.not_found_on_404 is not_found_on_404


@pytest.mark.parametrize(
    ("question", "body"),
    [(user(1), USER | PROFILE), (posts_by(1), [POST, POST | {"id": 2}]), (todos_of(1), [TODO])],
)
def test_decoding_keeps_every_field(question: Question, body: object) -> None:
    assert json.loads(question.decode(json.dumps(body).encode()).json) == body


def test_unknown_fields_are_ignored() -> None:
    extra = USER | PROFILE | {"__proto__": {}, "user-id": 9}
    decoded = json.loads(user(1).decode(json.dumps(extra).encode()).json)
    assert decoded == USER | PROFILE


def test_a_user_without_a_profile_has_null_fields() -> None:
    decoded = json.loads(user(1).decode(json.dumps(USER).encode()).json)
    assert decoded == USER | dict.fromkeys(PROFILE)


UNKNOWN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"address": PROFILE["address"] | {"suite": None}}, {"suite": None}),
    ({"address": {"city": "c"}}, dict.fromkeys(PROFILE["address"]) | {"city": "c"}),
    ({"address": PROFILE["address"] | {"geo": None}}, {"geo": None}),
    ({"address": PROFILE["address"] | {"geo": {}}}, {"geo": {"lat": None, "lng": None}}),
    ({"address": PROFILE["address"] | {"geo": {"lat": "1"}}}, {"geo": {"lat": "1", "lng": None}}),
    ({"company": {}}, dict.fromkeys(PROFILE["company"])),
    ({"company": {"bs": "x"}}, {"name": None, "catchPhrase": None, "bs": "x"}),
]


@pytest.mark.parametrize(("sent", "expected"), UNKNOWN)
def test_what_is_unknown_of_a_profile_is_null_and_costs_nothing_else(
    sent: dict[str, Any], expected: dict[str, Any]
) -> None:
    decoded = json.loads(user(1).decode(json.dumps(USER | PROFILE | sent).encode()).json)
    (part,) = sent
    assert decoded == USER | PROFILE | {part: PROFILE[part] | expected}


def test_half_an_emoji_in_a_profile_costs_that_part() -> None:
    body = json.dumps(USER | PROFILE | {"website": "cut \ud83d", "phone": None}).encode()
    assert json.loads(user(1).decode(body).json) == USER | PROFILE | {
        "website": None,
        "phone": None,
    }


@pytest.mark.parametrize(
    ("model", "good", "broken"),
    [
        *((User, USER, {"id": invalid}) for invalid in (0, -1, "1", 1.5, True, None, MAX_ID + 1)),
        (User, USER, {"name": None}),
        (User, USER, {"address": "s"}),
        (User, USER, {"address": {"street": 7}}),
        (User, USER, {"company": []}),
        (User, USER, {"phone": 30}),
        (Post, POST, {"userId": "1"}),
        (Post, POST, {"title": 7}),
        (Todo, TODO, {"completed": "false"}),
        (Todo, TODO, {"completed": 0}),
    ],
)
def test_the_models_are_strict(
    model: type[Resource], good: dict[str, Any], broken: dict[str, Any]
) -> None:
    model.model_validate_json(json.dumps(good))
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps(good | broken))


@pytest.mark.parametrize("question", [user(1), posts_by(1), todos_of(1)])
def test_a_body_of_another_shape_is_an_invalid_payload(question: Question) -> None:
    for body in (b"null", b'"text"', b'[{"id":1}]', b'{"items":[]}'):
        with pytest.raises(InvalidPayload):
            question.decode(body)
