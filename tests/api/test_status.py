"""The status of the whole, from the upstreams' answers to the client's."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from app.problems.responses import Problem
from tests.fakes import now
from tests.in_process import (
    ABSENT,
    BROKEN,
    BUSY,
    FAULTY,
    GARBAGE,
    LATE,
    MODELS,
    NAMES,
    ONCE,
    POST,
    End,
    body_of,
    healthy,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("end", "reason", "status"),
    [
        (LATE, "timeout", 504),
        (BROKEN, "unreachable", 502),
        (FAULTY, "upstream_status", 502),
        (ABSENT, "upstream_status", 502),
        (
            httpx.Response(302, headers={"Location": "http://a.test/"}),
            "upstream_status",
            502,
        ),
        (GARBAGE, "invalid_payload", 502),
        (BUSY, "overloaded", 503),
    ],
)
async def test_one_failed_section_is_told_and_the_others_are_there(
    end: End, reason: str, status: int
) -> None:
    async with running_service(upstream_with(posts=end), upstreams=ONCE) as service:
        response = await service.overview()
    body = body_of(response, MODELS.answer)
    assert (response.status_code, body["complete"]) == (200, False)
    assert [body[name]["status"] for name in NAMES] == ["ok", "failed", "ok"]
    error = body["posts"]["error"]
    assert (error["reason"], error["status"], error["attempts"]) == (reason, status, 1)
    assert error["type"] == f"/problems/{reason}"


@pytest.mark.parametrize(
    ("ends", "query", "status", "reason"),
    [
        ({"user": ABSENT}, "", 404, "not_found"),
        ({"user": ABSENT, "posts": LATE, "todos": BUSY}, "", 404, "not_found"),
        ({"user": ABSENT}, "?require=posts", 404, "not_found"),
        ({"user": ABSENT}, "?include=user", 404, "not_found"),
        ({"posts": LATE}, "?require=posts", 504, "timeout"),
        ({"posts": BROKEN}, "?require=posts,user", 502, "unreachable"),
        ({"todos": FAULTY}, "?require=todos", 502, "upstream_status"),
        ({"todos": BUSY}, "?require=todos", 503, "overloaded"),
        ({"user": FAULTY, "posts": LATE, "todos": BUSY}, "", 504, "timeout"),
        ({"user": FAULTY, "posts": BROKEN, "todos": BUSY}, "", 503, "overloaded"),
        ({"user": FAULTY, "posts": BROKEN, "todos": GARBAGE}, "", 502, "upstream_status"),
        ({"posts": GARBAGE}, "?include=posts", 502, "invalid_payload"),
        ({"posts": BUSY, "todos": LATE}, "?include=posts,todos", 504, "timeout"),
    ],
)
async def test_what_leaves_nothing_to_tell_is_a_problem(
    ends: Mapping[str, End], query: str, status: int, reason: str
) -> None:
    async with running_service(upstream_with(**ends)) as service:
        response = await service.overview(query)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-complete"] == "false"
    assert "etag" not in response.headers
    problem = body_of(response, Problem if status == 404 else MODELS.failed)
    assert (problem["type"], problem["status"]) == (f"/problems/{reason}", status)
    assert problem["instance"] == "/v1/users/7/overview"
    assert problem["detail"]
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("ends", "query"),
    [
        ({"user": FAULTY, "posts": LATE}, ""),
        ({"posts": LATE}, "?require=user"),
        ({"user": ABSENT}, "?include=posts,todos"),
    ],
)
async def test_as_long_as_something_is_there_the_answer_is_200(
    ends: Mapping[str, End], query: str
) -> None:
    async with running_service(upstream_with(**ends)) as service:
        assert (await service.overview(query)).status_code == 200


async def test_a_required_failure_ends_its_siblings_at_once_and_shows_what_was_there() -> None:
    upstream = healthy()
    left: list[str] = []

    async def slow(request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(60)
        finally:
            left.append(request.url.path)
        return FAULTY

    async def failing(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return FAULTY

    upstream["todos"].mock(side_effect=slow)
    upstream["posts"].mock(side_effect=failing)
    async with running_service(upstream, upstreams=ONCE) as service:
        began = now()
        response = await service.overview("?require=posts")
        assert now() - began == pytest.approx(0.1)
    assert left == ["/todos"]
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: one["status"] for name, one in sections.items()} == {
        "user": "ok",
        "posts": "failed",
        "todos": "skipped",
    }


async def test_when_to_come_back_is_what_the_upstream_says() -> None:
    async with running_service(upstream_with(posts=BUSY)) as service:
        response = await service.overview("?require=posts")
    assert response.headers["retry-after"] == "7"
    assert response.json()["sections"]["posts"]["error"]["retry_after"] == 7


@pytest.mark.parametrize(
    ("items", "status", "dropped"),
    [([POST, {"id": "1"}, POST, None], "ok", 2), ([None], "failed", None), ([], "ok", 0)],
)
async def test_a_broken_item_is_left_out_and_an_empty_list_is_no_failure(
    items: list[object], status: str, dropped: int | None
) -> None:
    async with running_service(upstream_with(posts=httpx.Response(200, json=items))) as service:
        body = body_of(await service.overview(), MODELS.answer)
    assert (body["posts"]["status"], body["posts"].get("dropped")) == (status, dropped)
    assert body["complete"] is (dropped == 0)
