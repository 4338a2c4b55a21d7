"""The cache of upstream answers, as clients see it: in data, Cache-Status and Server-Timing."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
import respx

from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    POST,
    READ_TIMEOUT,
    STATUS_404,
    STATUS_429,
    STATUS_500,
    USER,
    WRONG_SHAPE,
    HangingUpstream,
    Reply,
    ServiceClient,
    body_of,
    every_upstream,
    healthy_upstream,
    log_lines,
    replace_route,
    running_service,
    timing_description,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts"
WITH_ETAG = httpx.Response(200, json=[POST], headers={"ETag": '"a"'})
CACHING = every_upstream(ttl=60, stale_while_revalidate=30, stale_if_error=600, retries=0)


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[ServiceClient]:
    """Answers are fresh for 60 s; `stale_while_revalidate` is 30 s, `stale_if_error` 600 s."""
    async with running_service(upstream, upstreams=CACHING) as client:
        yield client


def cache_headers(response: httpx.Response) -> tuple[str, str]:
    """Cache-Status, and the description of the one section in Server-Timing."""
    return response.headers["cache-status"], timing_description(response)


async def test_a_cache_hit_needs_no_upstream_request_and_has_its_ttl_in_cache_status(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    first = await service.overview(POSTS)
    assert cache_headers(first) == ("posts; fwd=miss; stored", "")
    for pause, ttl in ((0, 60), (10, 50), (49.5, 0)):
        await asyncio.sleep(pause)
        hit = await service.overview(POSTS)
        assert cache_headers(hit) == (f"posts; hit; ttl={ttl}", "hit")
        assert (hit.content, hit.headers["etag"]) == (first.content, first.headers["etag"])
    assert upstream["posts"].call_count == 1


async def test_each_section_is_cached_for_itself() -> None:
    upstream = healthy_upstream()
    async with running_service(upstream, upstreams={"posts": {"ttl": 60}}) as service:
        await service.overview(POSTS)
        response = await service.overview()
    assert response.headers["cache-status"] == (
        "users; fwd=miss, posts; hit; ttl=60, todos; fwd=miss"
    )
    assert [upstream[name].call_count for name in ("user", "posts", "todos")] == [1, 1, 1]


async def test_the_forwarded_headers_are_part_of_the_cache_key() -> None:
    upstream = healthy_upstream()
    async with running_service(
        upstream, upstreams=CACHING, forward_headers=("authorization",)
    ) as service:
        for authorization in ("Bearer a", "Bearer b", "Bearer a"):
            await service.overview(POSTS, Authorization=authorization)
        await service.overview(POSTS)
    sent = [call.request.headers.get("authorization") for call in upstream["posts"].calls]
    assert sent == ["Bearer a", "Bearer b", None]


async def test_stale_while_revalidate_serves_the_stale_answer_and_refreshes_it_once(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(65)
    stale = await service.overview(POSTS)
    assert cache_headers(stale) == ("posts; hit; ttl=-5", "stale")
    # As far as we know the data have not changed: the answer is complete, but not fresh.
    assert (stale.headers["cache-control"], stale.headers["x-complete"]) == (
        "private, no-cache",
        "true",
    )
    assert body_of(stale, MODELS.answer)["posts"]["stale"] is False
    await asyncio.sleep(1)
    assert cache_headers(await service.overview(POSTS)) == ("posts; hit; ttl=59", "hit")
    assert upstream["posts"].call_count == 2


async def test_an_answer_past_stale_while_revalidate_is_fetched_again(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(90)
    assert cache_headers(await service.overview(POSTS)) == ("posts; fwd=stale; stored", "")
    assert upstream["posts"].call_count == 2


async def test_an_upstream_304_not_modified_revalidates_the_stale_answer() -> None:
    upstream = upstream_with(posts=WITH_ETAG)
    async with running_service(upstream, upstreams=every_upstream(ttl=60)) as service:
        first = await service.overview(POSTS)
        await asyncio.sleep(60)
        replace_route(upstream, "posts", httpx.Response(304))
        revalidated = await service.overview(POSTS)
        assert cache_headers(revalidated) == ("posts; fwd=stale; fwd-status=304; stored", "")
        assert revalidated.headers["etag"] == first.headers["etag"]
        assert cache_headers(await service.overview(POSTS)) == ("posts; hit; ttl=60", "hit")
    conditions = [call.request.headers.get("if-none-match") for call in upstream["posts"].calls]
    assert conditions == [None, '"a"']


async def test_equal_requests_in_flight_are_coalesced(
    upstream: respx.MockRouter,
) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.5)
        return httpx.Response(200, json=[POST])

    replace_route(upstream, "posts", slow)
    async with running_service(upstream) as service:
        first, second = await asyncio.gather(service.overview(POSTS), service.overview(POSTS))
    assert cache_headers(first) == ("posts; fwd=miss", "")
    assert cache_headers(second) == ("posts; fwd=miss; collapsed", "coalesced")
    assert first.content == second.content
    assert upstream["posts"].call_count == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (CONNECT_ERROR, "unreachable"),
        (READ_TIMEOUT, "timeout"),
        (STATUS_500, "upstream_status"),
        (WRONG_SHAPE, "invalid_payload"),
        (STATUS_429, "overloaded"),
    ],
)
async def test_stale_if_error_serves_the_last_good_answer(
    upstream: respx.MockRouter, reply: Reply, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        last_good = body_of(await service.overview("?require=posts"), MODELS.answer)["posts"]
        await asyncio.sleep(100)
        replace_route(upstream, "posts", reply)
        capsys.readouterr()
        response = await service.overview("?require=posts", X_Request_ID="find-me")
    assert (response.status_code, response.headers["x-complete"]) == (200, "false")
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers
    body = body_of(response, MODELS.answer)
    assert body["complete"] is False
    assert body["posts"] == last_good | {"stale": True}
    assert body["user"]["stale"] is False
    assert "posts; fwd=stale; ttl=-40; detail=stale-if-error" in response.headers["cache-status"]
    assert re.search(r'posts;dur=[0-9.]+;desc="stale"', response.headers["server-timing"])

    lines = log_lines(capsys)
    (served_stale,) = (line for line in lines if line["event"] == "served stale")
    assert served_stale["level"] == "warning"
    assert (served_stale["upstream"], served_stale["reason"], served_stale["request_id"]) == (
        "posts",
        reason,
        "find-me",
    )
    (request,) = (line for line in lines if line["event"] == "request")
    assert (request["stale"], request["failed"], request["complete"]) == (["posts"], {}, False)


@pytest.mark.parametrize(
    ("section", "reply", "status"),
    [
        ("posts", httpx.Response(403), 502),
        ("posts", STATUS_404, 502),
        ("user", STATUS_404, 404),
    ],
)
async def test_stale_if_error_does_not_hide_a_403_or_a_404(
    service: ServiceClient, upstream: respx.MockRouter, section: str, reply: Reply, status: int
) -> None:
    query = f"?include={section}"
    await service.overview(query)
    await asyncio.sleep(100)
    replace_route(upstream, section, reply)
    assert (await service.overview(query)).status_code == status


async def test_a_404_removes_the_stale_answer_from_the_cache(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    await service.overview("?include=user")
    await asyncio.sleep(100)
    replace_route(upstream, "user", STATUS_404)
    await service.overview("?include=user")
    replace_route(upstream, "user", CONNECT_ERROR)
    assert (await service.overview("?include=user")).status_code == 502


async def test_an_answer_past_stale_if_error_is_not_served(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(660)
    replace_route(upstream, "posts", CONNECT_ERROR)
    response = await service.overview(POSTS)
    assert (response.status_code, cache_headers(response)) == (502, ("posts; fwd=stale", ""))


async def test_a_failed_refresh_is_logged_and_the_stale_answer_is_served(
    upstream: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        await service.overview(POSTS)
        await asyncio.sleep(65)
        replace_route(upstream, "posts", CONNECT_ERROR)
        response = await service.overview(POSTS, X_Request_ID="find-me")
        await asyncio.sleep(1)
    assert (response.status_code, cache_headers(response)) == (200, ("posts; hit; ttl=-5", "stale"))
    (line,) = log_lines(capsys, "refresh failed")
    assert (line["upstream"], line["reason"]) == ("posts", "unreachable")
    assert (line["request_id"], line["level"]) == ("find-me", "warning")


async def test_a_refresh_in_flight_is_cancelled_at_shutdown() -> None:
    upstream, hanging = healthy_upstream(), HangingUpstream()
    tasks_before = asyncio.all_tasks()
    async with running_service(upstream, upstreams=CACHING) as service:
        await service.overview(POSTS)
        await asyncio.sleep(65)
        replace_route(upstream, "posts", hanging)
        await service.overview(POSTS)
        await asyncio.sleep(0.1)
        assert len(hanging.requests) == 1
        assert asyncio.all_tasks() != tasks_before
    assert asyncio.all_tasks() == tasks_before


async def test_a_response_with_cache_control_private_is_not_stored(
    upstream: respx.MockRouter,
) -> None:
    private: Mapping[str, str] = {"Cache-Control": "private, max-age=60"}
    replace_route(upstream, "user", httpx.Response(200, json=USER, headers=private))
    async with running_service(upstream, upstreams=CACHING) as service:
        for _ in range(2):
            assert cache_headers(await service.overview("?include=user")) == ("users; fwd=miss", "")
    assert upstream["user"].call_count == 2
