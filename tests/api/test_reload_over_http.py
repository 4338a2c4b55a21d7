"""`Cache-Control` and `Pragma` of the client: a reload uses nothing that is stored."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    PATH,
    POST,
    ServiceClient,
    body_of,
    every_upstream,
    healthy_upstream,
    replace_route,
    running_service,
    timing_description,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts"
CACHING = every_upstream(ttl=60, stale_if_error=600, retries=0)


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[ServiceClient]:
    async with running_service(upstream, upstreams=CACHING) as client:
        yield client


def cache_headers(response: httpx.Response) -> tuple[str, str]:
    """Cache-Status, and the description of the one section in Server-Timing."""
    return response.headers["cache-status"], timing_description(response)


@pytest.mark.parametrize(
    "cache_control",
    [
        *(["no-cache"], ["no-store"], ["No-Cache"], ["NO-STORE"], ["max-age=0, no-cache"]),
        *(["no-store,max-age=0"], ["max-age=60", "no-cache"], [" no-cache ,no-transform"]),
        *(["max-age=0"], ["MAX-AGE=0"], ["no-transform, max-age=0"]),  # what a browser reloads with
    ],
)
async def test_cache_control_no_cache_no_store_or_max_age_0_bypasses_the_cache(
    service: ServiceClient, upstream: respx.MockRouter, cache_control: list[str]
) -> None:
    await service.overview(POSTS)
    headers = [("Cache-Control", line) for line in cache_control]
    response = await service.get(PATH + POSTS, headers=headers)
    assert cache_headers(response)[0].startswith("posts; fwd=request")
    assert upstream["posts"].call_count == 2
    assert "if-none-match" not in upstream["posts"].calls.last.request.headers


@pytest.mark.parametrize(
    "cache_control", ["", "max-age=60", "max-age=00.5", "no-transform", "x-no-cache", "no-cachet"]
)
async def test_another_cache_control_directive_does_not_bypass_the_cache(
    service: ServiceClient, cache_control: str
) -> None:
    await service.overview(POSTS)
    response = await service.overview(POSTS, Cache_Control=cache_control)
    assert cache_headers(response) == ("posts; hit; ttl=60", "hit")


async def test_an_answer_fetched_with_no_cache_is_stored_for_others(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(30)
    replace_route(upstream, "posts", httpx.Response(200, json=[]))
    await service.overview(POSTS, Cache_Control="no-cache")
    response = await service.overview(POSTS)
    assert cache_headers(response) == ("posts; hit; ttl=60", "hit")
    assert body_of(response, MODELS.answer)["posts"]["data"] == []


@pytest.mark.parametrize("cache_control", ["no-cache", "no-store", "max-age=0"])
async def test_with_cache_control_no_cache_or_no_store_a_failure_is_not_replaced_by_a_stale_answer(
    service: ServiceClient, upstream: respx.MockRouter, cache_control: str
) -> None:
    await service.overview(POSTS)
    replace_route(upstream, "posts", CONNECT_ERROR)
    response = await service.overview(POSTS, Cache_Control=cache_control)
    assert (response.status_code, cache_headers(response)) == (502, ("posts; fwd=request", ""))


@pytest.mark.parametrize(
    ("headers", "reloads"),
    [
        ({"Pragma": "no-cache"}, True),
        ({"Pragma": "x, No-Cache"}, True),
        ({"Pragma": "x"}, False),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=60"}, False),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=0"}, True),
    ],
)
async def test_pragma_no_cache_is_a_reload_where_there_is_no_cache_control(
    service: ServiceClient, headers: dict[str, str], reloads: bool
) -> None:
    await service.overview(POSTS)
    response = await service.get(PATH + POSTS, headers=headers)
    assert cache_headers(response) == (
        ("posts; fwd=request; stored", "") if reloads else ("posts; hit; ttl=60", "hit")
    )


async def test_an_answer_to_a_request_with_no_store_is_not_stored(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    response = await service.overview(POSTS, Cache_Control="no-store")
    assert cache_headers(response) == ("posts; fwd=request", "")
    assert cache_headers(await service.overview(POSTS)) == ("posts; fwd=miss; stored", "")
    replace_route(upstream, "posts", httpx.Response(200, json=[]))
    private = await service.overview(POSTS, Cache_Control="no-store")
    assert body_of(private, MODELS.answer)["posts"]["data"] == []
    stored = await service.overview(POSTS)
    assert cache_headers(stored) == ("posts; hit; ttl=60", "hit")
    assert body_of(stored, MODELS.answer)["posts"]["data"] != []


async def test_a_reload_is_not_answered_by_what_was_asked_before_it_arrived() -> None:
    """Who has written something reads it, though a slow request is in flight."""
    upstream, written = healthy_upstream(), False

    async def slow(_: httpx.Request) -> httpx.Response:
        reply = httpx.Response(200, json=[] if written else [POST])
        await asyncio.sleep(0.2)
        return reply

    replace_route(upstream, "posts", slow)
    async with running_service(upstream, upstreams=CACHING) as service:
        early = asyncio.ensure_future(service.overview(POSTS))
        await asyncio.sleep(0.1)
        written = True
        reload, shared = await asyncio.gather(
            service.overview(POSTS, Cache_Control="no-cache"), service.overview(POSTS)
        )
        answers = [
            len(body_of(response, MODELS.answer)["posts"]["data"])
            for response in (await early, reload, shared)
        ]
        assert answers == [1, 0, 0]
        # The older answer, which came first, was replaced by the newer one.
        assert body_of(await service.overview(POSTS), MODELS.answer)["posts"]["data"] == []
    assert upstream["posts"].call_count == 2
