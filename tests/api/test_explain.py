"""`?explain=true`: whoever may see what was done for an answer has it in the answer."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from app.problems.responses import InvalidRequest
from tests.api.folding import EVENTS, fold, parsed, taking
from tests.in_process import (
    ABSENT,
    BROKEN,
    FAULTY,
    MODELS,
    End,
    Running,
    body_of,
    each,
    healthy,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


def kinds(answer: Any) -> list[tuple[str, str, str]]:
    return sorted((one["section"], one["kind"], one["outcome"]) for one in answer["timeline"])


@pytest.mark.parametrize(
    ("fates", "query", "model"),
    [
        ({}, "", MODELS.answer),
        ({"user": (0.1, ABSENT)}, "", MODELS.not_found),
        ({"posts": (0.1, FAULTY)}, "&require=posts", MODELS.failed),
        ({"posts": (0.1, BROKEN)}, "&include=posts", MODELS.failed),
    ],
)
async def test_problems_and_events_have_it_too(
    fates: Mapping[str, tuple[float, End]], query: str, model: type[BaseModel]
) -> None:
    upstream, once = taking(todos=0.2, **fates), each(retries=0)
    async with running_service(upstream, upstreams=once, explain="on") as service:
        whole = body_of(await service.overview(f"?explain=true{query}"), model)
        streamed = await service.overview(f"?explain=true{query}", Accept=EVENTS)
    _, answer = fold(parsed(streamed.text))
    assert kinds(whole)
    assert kinds(answer) == kinds(whole)
    assert set(answer) == set(whole)


@pytest.mark.parametrize(
    ("explain", "query", "there"),
    [
        ("on", "?explain=true", True),
        ("on", "?explain=false", False),
        ("on", "", False),
        ("auto", "?explain=true", False),
        ("off", "?explain=true", False),
    ],
)
@pytest.mark.parametrize("ends", [{}, {"user": ABSENT}, {"user": FAULTY}])
async def test_only_where_it_is_allowed_and_asked_for(
    ends: Mapping[str, End], explain: str, query: str, there: bool
) -> None:
    async with running_service(upstream_with(**ends), explain=explain) as service:
        for _ in range(2):  # the second one past all that is remembered of the first
            for required in ("", "&require=user"):
                path = (query or "?explain=false") + required
                assert ("timeline" in (await service.overview(path)).json()) is there
                streamed = await service.overview(path, Accept=EVENTS)
                assert ('"timeline"' in streamed.text) is there


@pytest.mark.parametrize(("explain", "there"), [({}, True), ({"explain": "off"}, False)])
async def test_the_demo_explains_itself_unless_told_otherwise(
    explain: Mapping[str, str], there: bool
) -> None:
    async with running_demo(**explain) as service:
        answer = (await service.get("/v1/users/1/overview?explain=true")).json()
    assert ("timeline" in answer) is there


async def test_an_answer_with_a_timeline_is_not_for_keeping() -> None:
    """Nor is it written into what others are sent."""
    async with running_service(healthy(), upstreams=each(ttl=60), explain="on") as service:
        plain = [await service.overview() for _ in range(2)][-1]
        tag = {"If_None_Match": plain.headers["etag"]}
        for _ in range(2):
            explained = await service.overview("?explain=true", **tag)
            assert (explained.status_code, explained.headers["cache-control"]) == (200, "no-store")
            assert "etag" not in explained.headers
            assert {one[1:] for one in kinds(explained.json())} == {("cache", "hit")}
        again = await service.overview()
        assert (await service.overview(**tag)).status_code == 304
    assert (again.content, again.headers["etag"]) == (plain.content, plain.headers["etag"])


@pytest.mark.parametrize("value", ["yes", "", "1", "True", "true,false"])
async def test_a_wrong_word_is_refused(service: Running, value: str) -> None:
    response = await service.overview(f"?explain={value}")
    assert response.status_code == 422
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (error["location"], error["parameter"]) == ("query", "explain")
