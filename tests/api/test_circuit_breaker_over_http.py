"""The circuit breaker of an upstream, as clients and the log see it."""

import asyncio

import httpx
import pytest

from tests.in_process import (
    MODELS,
    NO_RETRIES,
    POST,
    SECTIONS,
    STATUS_500,
    USER,
    body_of,
    healthy_upstream,
    log_lines,
    replace_route,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts"
Captured = pytest.CaptureFixture[str]


async def test_the_circuit_breaker_opens_and_closes_after_a_probe(
    capsys: Captured,
) -> None:
    upstream = upstream_with(posts=STATUS_500)
    async with running_service(
        upstream, upstreams=NO_RETRIES, forward_headers=("accept-language",)
    ) as service:
        for n in range(20):
            await service.overview(POSTS, Accept_Language=f"l{n}")
        (opened,) = log_lines(capsys, "breaker open")
        assert (opened["upstream"], opened["mirror"], opened["level"]) == ("posts", 0, "warning")
        response = await service.overview(POSTS)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        error = body_of(response, MODELS.failed)["sections"]["posts"]["error"]
        assert (error["reason"], error["attempts"]) == ("circuit_open", 0)
        assert 0 < error["retry_after"] <= 1
        body = body_of(await service.overview(), MODELS.answer)
        assert [body[name]["status"] for name in SECTIONS] == ["ok", "failed", "ok"]
        assert upstream["posts"].call_count == 20

        replace_route(upstream, "posts", httpx.Response(200, json=[POST]))
        await asyncio.sleep(1)
        assert body_of(await service.overview(POSTS), MODELS.answer)["complete"] is True
    (closed,) = log_lines(capsys, "breaker closed")
    assert (closed["upstream"], closed["mirror"], closed["level"]) == ("posts", 0, "info")


async def test_failures_at_the_same_time_open_the_circuit_breaker_once(capsys: Captured) -> None:
    upstream = healthy_upstream()

    async def failing(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return STATUS_500

    replace_route(upstream, "posts", failing)
    async with running_service(
        upstream, upstreams=NO_RETRIES, forward_headers=("accept-language",)
    ) as service:
        requests = (service.overview(POSTS, Accept_Language=f"l{n}") for n in range(30))
        await asyncio.gather(*requests)
    assert len(log_lines(capsys, "breaker open")) == 1


async def test_a_user_whose_posts_only_fail_is_in_quarantine_alone(capsys: Captured) -> None:
    upstream = healthy_upstream()
    upstream.get("http://upstream.test/posts?userId=8").mock(return_value=STATUS_500)
    upstream.get("http://upstream.test/users/8").respond(json=USER | {"id": 8})
    async with running_service(upstream, upstreams=NO_RETRIES) as service:
        for n in range(100):
            response = await service.get("/v1/users/8/overview" + POSTS)
            reason = body_of(response, MODELS.failed)["sections"]["posts"]["error"]["reason"]
            assert reason == ("upstream_status" if n < 6 else "circuit_open")
            assert body_of(await service.overview(POSTS), MODELS.answer)["complete"] is True
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        await asyncio.sleep(1)
        response = await service.get("/v1/users/8/overview" + POSTS)
        assert response.status_code == 502  # a probe
    assert log_lines(capsys, "breaker open") == []
    assert upstream["posts"].call_count == 100
