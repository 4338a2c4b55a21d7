"""`?explain=true`: the timeline, in answers, problems and SSE, where the service allows it."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from app.problems.responses import InvalidRequest
from tests.api.simulated_upstreams import simulated
from tests.api.stream_client import SSE, fold, parse_sse
from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    NO_RETRIES,
    STATUS_404,
    STATUS_500,
    Reply,
    ServiceClient,
    body_of,
    every_upstream,
    healthy_upstream,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


def kinds(answer: Any) -> list[tuple[str, str, str]]:
    timeline = answer["timeline"]
    return sorted((span["section"], span["kind"], span["outcome"]) for span in timeline)


@pytest.mark.parametrize(
    ("behaviours", "query", "model"),
    [
        ({}, "", MODELS.answer),
        ({"user": (0.1, STATUS_404)}, "", MODELS.not_found),
        ({"posts": (0.1, STATUS_500)}, "&require=posts", MODELS.failed),
        ({"posts": (0.1, CONNECT_ERROR)}, "&include=posts", MODELS.failed),
    ],
)
async def test_explain_adds_the_timeline_to_answers_problems_and_sse(
    behaviours: Mapping[str, tuple[float, Reply]], query: str, model: type[BaseModel]
) -> None:
    upstream = simulated(todos=0.2, **behaviours)
    async with running_service(upstream, upstreams=NO_RETRIES, explain="on") as service:
        body = body_of(await service.overview(f"?explain=true{query}"), model)
        streamed = await service.overview(f"?explain=true{query}", Accept=SSE)
    _, answer = fold(parse_sse(streamed.text))
    assert kinds(body)
    assert kinds(answer) == kinds(body)
    assert set(answer) == set(body)


@pytest.mark.parametrize(
    ("explain", "query", "explained"),
    [
        ("on", "?explain=true", True),
        ("on", "?explain=false", False),
        ("on", "", False),
        ("auto", "?explain=true", False),
        ("off", "?explain=true", False),
    ],
)
@pytest.mark.parametrize("replies", [{}, {"user": STATUS_404}, {"user": STATUS_500}])
async def test_explain_needs_the_setting_and_the_parameter(
    replies: Mapping[str, Reply], explain: str, query: str, explained: bool
) -> None:
    async with running_service(upstream_with(**replies), explain=explain) as service:
        for _ in range(2):  # the second is a hit of the route cache
            for require in ("", "&require=user"):
                target = (query or "?explain=false") + require
                body = (await service.overview(target)).json()
                assert ("timeline" in body) is explained
                streamed = await service.overview(target, Accept=SSE)
                assert ('"timeline"' in streamed.text) is explained


@pytest.mark.parametrize(("settings", "explained"), [({}, True), ({"explain": "off"}, False)])
async def test_explain_is_on_for_the_demo_unless_turned_off(
    settings: Mapping[str, str], explained: bool
) -> None:
    async with running_demo(**settings) as service:
        answer = (await service.get("/v1/users/1/overview?explain=true")).json()
    assert ("timeline" in answer) is explained


async def test_an_explained_answer_is_no_store_and_not_in_the_response_cache() -> None:
    """The timeline of one request is never sent to another."""
    async with running_service(
        healthy_upstream(), upstreams=every_upstream(ttl=60.5), explain="on"
    ) as service:
        plain = [await service.overview() for _ in range(2)][-1]
        condition = {"If_None_Match": plain.headers["etag"]}
        for _ in range(2):
            explained = await service.overview("?explain=true", **condition)
            assert (explained.status_code, explained.headers["cache-control"]) == (200, "no-store")
            assert "etag" not in explained.headers
            assert {span[1:] for span in kinds(explained.json())} == {("cache", "hit")}
        after = await service.overview()
        assert (await service.overview(**condition)).status_code == 304
    assert (after.content, after.headers["etag"]) == (plain.content, plain.headers["etag"])


@pytest.mark.parametrize("value", ["yes", "", "1", "True", "true,false"])
async def test_an_invalid_explain_is_a_422(service: ServiceClient, value: str) -> None:
    response = await service.overview(f"?explain={value}")
    assert response.status_code == 422
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (error["location"], error["parameter"]) == ("query", "explain")
