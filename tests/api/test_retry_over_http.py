"""Retries and hedges, as clients and the log see them."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from tests.fakes import now
from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    POST,
    READ_TIMEOUT,
    STATUS_429,
    STATUS_500,
    WRONG_SHAPE,
    HangingUpstream,
    Reply,
    body_of,
    healthy_upstream,
    log_lines,
    replace_route,
    running_service,
    timing_description,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts"
OK = httpx.Response(200, json=[POST])
Captured = pytest.CaptureFixture[str]


def one_after_the_other(*replies: Reply) -> Iterator[Reply]:
    """Each in turn, and the last one again and again."""
    yield from replies
    while True:
        yield replies[-1]


@pytest.mark.parametrize("reply", [CONNECT_ERROR, READ_TIMEOUT, STATUS_500, httpx.Response(408)])
async def test_a_transient_failure_is_retried(reply: Reply, capsys: Captured) -> None:
    upstream = healthy_upstream()
    replace_route(upstream, "posts", one_after_the_other(reply, OK))
    async with running_service(upstream) as service:
        response = await service.overview(POSTS, X_Request_ID="find-me")
    assert body_of(response, MODELS.answer)["complete"] is True
    assert timing_description(response) == "retry"
    assert now() <= 0.025
    assert [call.request.headers["x-request-id"] for call in upstream["posts"].calls] == [
        "find-me"
    ] * 2
    lines = log_lines(capsys)
    assert [(line["event"], line["request_id"]) for line in lines] == [
        ("attempt failed", "find-me"),
        ("retrying", "find-me"),
        ("request", "find-me"),
    ]
    assert (lines[0]["attempt"], lines[0]["mirror"]) == (1, 0)
    assert lines[1]["in_ms"] <= 25


@pytest.mark.parametrize(
    ("reply", "attempts"),
    [
        *((reply, 3) for reply in (CONNECT_ERROR, READ_TIMEOUT, STATUS_500)),
        *((reply, 1) for reply in (WRONG_SHAPE, httpx.Response(403), httpx.Response(304))),
        (STATUS_429, 1),  # Retry-After is 7 s, and the deadline 2 s
        (httpx.Response(429, headers={"Retry-After": "0"}), 3),
        (httpx.Response(503, headers={"Retry-After": "1"}), 2),
    ],
)
async def test_the_error_of_a_failed_section_counts_its_attempts(
    reply: Reply, attempts: int
) -> None:
    upstream = upstream_with(posts=reply)
    async with running_service(upstream) as service:
        section = body_of(await service.overview(), MODELS.answer)["posts"]
    assert section["error"]["attempts"] == upstream["posts"].call_count == attempts
    assert section["error"]["detail"].endswith(f", {attempts} attempts") is (attempts > 1)


async def test_an_invalid_payload_is_retried_on_another_mirror() -> None:
    upstream = healthy_upstream()
    upstream.get("http://a.test/posts?userId=7").respond(json="not the model")
    upstream.get("http://b.test/posts?userId=7").respond(json=[POST])
    mirrors = {"posts": {"urls": "http://a.test,http://b.test"}}
    async with running_service(upstream, upstreams=mirrors) as service:
        assert body_of(await service.overview(POSTS), MODELS.answer)["complete"] is True


async def test_nothing_is_retried_once_the_retry_budget_is_spent(capsys: Captured) -> None:
    upstream = upstream_with(posts=CONNECT_ERROR)
    async with running_service(
        upstream, upstreams={"posts": {"retry_budget": 0}}, forward_headers=("accept-language",)
    ) as service:
        for n in range(5):  # two retries each use up the reserve of the budget
            await service.overview(POSTS, Accept_Language=f"l{n}")
        assert log_lines(capsys, "retry budget spent") == []
        await service.overview(POSTS, X_Request_ID="find-me")
    (line,) = log_lines(capsys, "retry budget spent")
    assert (line["upstream"], line["request_id"], line["level"]) == ("posts", "find-me", "info")
    assert upstream["posts"].call_count == 5 * 3 + 1


@pytest.mark.parametrize("hedge", [0.05, 0])
async def test_a_late_mirror_is_hedged_or_raced_by_another(hedge: float) -> None:
    upstream = healthy_upstream()
    upstream.get("http://a.test/posts?userId=7").mock(side_effect=HangingUpstream())
    upstream.get("http://b.test/posts?userId=7").respond(json=[POST])
    mirrors = {"posts": {"urls": "http://a.test,http://b.test", "hedge": hedge}}
    async with running_service(upstream, upstreams=mirrors) as service:
        response = await service.overview(POSTS)
        assert body_of(response, MODELS.answer)["complete"] is True
        assert now() == pytest.approx(hedge)
        # With a delay of 0 it is a race, as set, and no hedge.
        assert timing_description(response) == ("hedge" if hedge else "")
        assert service.state.upstreams["posts"].bulkhead.in_flight == 0


async def test_server_timing_describes_coalesced_retry_and_hedge() -> None:
    upstream = healthy_upstream()
    calls = 0

    async def first_failing_then_late(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1 if calls < 4 else 0)
        return OK if calls > 3 else STATUS_500

    replace_route(upstream, "posts", first_failing_then_late)
    async with running_service(upstream, upstreams={"posts": {"hedge": 0.05}}) as service:
        _, second = await asyncio.gather(*(service.overview(POSTS) for _ in range(2)))
    assert timing_description(second) == "coalesced retry hedge"
