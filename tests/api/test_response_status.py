"""The status of an answer, by the replies of its upstreams."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from app.problems.responses import Problem
from tests.fakes import now
from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    NO_RETRIES,
    POST,
    READ_TIMEOUT,
    SECTIONS,
    STATUS_404,
    STATUS_429,
    STATUS_500,
    WRONG_SHAPE,
    Reply,
    body_of,
    healthy_upstream,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("reply", "reason", "status"),
    [
        (READ_TIMEOUT, "timeout", 504),
        (CONNECT_ERROR, "unreachable", 502),
        (STATUS_500, "upstream_status", 502),
        (STATUS_404, "upstream_status", 502),
        (
            httpx.Response(302, headers={"Location": "http://a.test/"}),
            "upstream_status",
            502,
        ),
        (WRONG_SHAPE, "invalid_payload", 502),
        (STATUS_429, "overloaded", 503),
    ],
)
async def test_a_failed_section_has_its_reason_and_the_others_are_ok(
    reply: Reply, reason: str, status: int
) -> None:
    async with running_service(upstream_with(posts=reply), upstreams=NO_RETRIES) as service:
        response = await service.overview()
    body = body_of(response, MODELS.answer)
    assert (response.status_code, body["complete"]) == (200, False)
    assert [body[name]["status"] for name in SECTIONS] == ["ok", "failed", "ok"]
    error = body["posts"]["error"]
    assert (error["reason"], error["status"], error["attempts"]) == (reason, status, 1)
    assert error["type"] == f"/problems/{reason}"


@pytest.mark.parametrize(
    ("replies", "query", "status", "reason"),
    [
        ({"user": STATUS_404}, "", 404, "not_found"),
        ({"user": STATUS_404, "posts": READ_TIMEOUT, "todos": STATUS_429}, "", 404, "not_found"),
        ({"user": STATUS_404}, "?require=posts", 404, "not_found"),
        ({"user": STATUS_404}, "?include=user", 404, "not_found"),
        ({"posts": READ_TIMEOUT}, "?require=posts", 504, "timeout"),
        ({"posts": CONNECT_ERROR}, "?require=posts,user", 502, "unreachable"),
        ({"todos": STATUS_500}, "?require=todos", 502, "upstream_status"),
        ({"todos": STATUS_429}, "?require=todos", 503, "overloaded"),
        ({"user": STATUS_500, "posts": READ_TIMEOUT, "todos": STATUS_429}, "", 504, "timeout"),
        ({"user": STATUS_500, "posts": CONNECT_ERROR, "todos": STATUS_429}, "", 503, "overloaded"),
        (
            {"user": STATUS_500, "posts": CONNECT_ERROR, "todos": WRONG_SHAPE},
            "",
            502,
            "upstream_status",
        ),
        ({"posts": WRONG_SHAPE}, "?include=posts", 502, "invalid_payload"),
        ({"posts": STATUS_429, "todos": READ_TIMEOUT}, "?include=posts,todos", 504, "timeout"),
    ],
)
async def test_a_failed_answer_is_a_problem_with_its_status(
    replies: Mapping[str, Reply], query: str, status: int, reason: str
) -> None:
    async with running_service(upstream_with(**replies)) as service:
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
    ("replies", "query"),
    [
        ({"user": STATUS_500, "posts": READ_TIMEOUT}, ""),
        ({"posts": READ_TIMEOUT}, "?require=user"),
        ({"user": STATUS_404}, "?include=posts,todos"),
    ],
)
async def test_an_answer_with_one_ok_section_is_a_200(
    replies: Mapping[str, Reply], query: str
) -> None:
    async with running_service(upstream_with(**replies)) as service:
        assert (await service.overview(query)).status_code == 200


async def test_a_required_failure_cancels_its_siblings_and_keeps_completed_sections() -> None:
    upstream = healthy_upstream()
    cancelled: list[str] = []

    async def slow(request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(request.url.path)
        return STATUS_500

    async def failing(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return STATUS_500

    upstream["todos"].mock(side_effect=slow)
    upstream["posts"].mock(side_effect=failing)
    async with running_service(upstream, upstreams=NO_RETRIES) as service:
        start = now()
        response = await service.overview("?require=posts")
        assert now() - start == pytest.approx(0.1)
    assert cancelled == ["/todos"]
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: section["status"] for name, section in sections.items()} == {
        "user": "ok",
        "posts": "failed",
        "todos": "skipped",
    }


async def test_retry_after_of_the_upstream_is_passed_on() -> None:
    async with running_service(upstream_with(posts=STATUS_429)) as service:
        response = await service.overview("?require=posts")
    assert response.headers["retry-after"] == "7"
    assert response.json()["sections"]["posts"]["error"]["retry_after"] == 7


@pytest.mark.parametrize(
    ("items", "status", "dropped"),
    [([POST, {"id": "1"}, POST, None], "ok", 2), ([None], "failed", None), ([], "ok", 0)],
)
async def test_a_broken_item_is_dropped_and_an_empty_list_is_ok(
    items: list[object], status: str, dropped: int | None
) -> None:
    async with running_service(upstream_with(posts=httpx.Response(200, json=items))) as service:
        body = body_of(await service.overview(), MODELS.answer)
    assert (body["posts"]["status"], body["posts"].get("dropped")) == (status, dropped)
    assert body["complete"] is (dropped == 0)
