"""The section cache over real connections: revalidation with 304, and stale-while-revalidate."""

import asyncio
import json

import pytest

from tests.service.replies import posts, respond_with
from tests.service.running import eventually, running_service
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_ETAG = '"one"'


def _post_with_title(title: str) -> bytes:
    return json.dumps([{**posts(1)[0], "title": title}]).encode()


async def test_a_stale_section_is_revalidated_by_etag_and_304_on_the_same_connection() -> None:
    async def tagged(exchange: Exchange) -> None:
        if exchange.headers.get("if-none-match") == _ETAG:
            reply = respond_with(b"", "304 Not Modified", etag=_ETAG, cache_control="max-age=60")
        else:  # one second old on arrival, and so stale from the start
            body = _post_with_title("first")
            reply = respond_with(body, etag=_ETAG, cache_control="max-age=1", age=1)
        await reply(exchange)

    async with running_service({"posts": tagged}) as service:
        responses = [await service.overview("?include=posts") for _ in range(3)]
        assert [one.headers["Cache-Status"].split("; ", 1)[1] for one in responses] == [
            "fwd=miss; stored",
            "fwd=stale; fwd-status=304; stored",
            "hit; ttl=59",
        ]
        assert len({one.headers["ETag"] for one in responses}) == 1
        assert {one.json["posts"]["data"][0]["title"] for one in responses} == {"first"}
        upstream = service.upstreams["posts"]
        assert ["if-none-match" in one.headers for one in upstream.exchanges] == [False, True]
        # A 304 leaves its connection usable for the next request.
        await service.overview("?include=posts", Cache_Control="no-cache")
        assert (len(upstream.exchanges), upstream.connections) == (3, 1)
        assert await service.leaks() == []


async def test_stale_while_revalidate_serves_stale_data_at_once_and_refreshes_it_once() -> None:
    release = asyncio.Event()

    async def aging(exchange: Exchange) -> None:
        if len(service.upstreams["posts"].exchanges) == 1:
            cache_control = "max-age=1, stale-while-revalidate=60"
            reply = respond_with(_post_with_title("old"), cache_control=cache_control, age=1)
        else:
            await release.wait()
            reply = respond_with(_post_with_title("new"), cache_control="max-age=60")
        await reply(exchange)

    async with running_service({"posts": aging}) as service:
        upstream = service.upstreams["posts"]
        await service.overview("?include=posts")
        for _ in range(2):  # both share one refresh
            stale = await service.overview("?include=posts")
            assert stale.json["posts"]["data"][0]["title"] == "old"
            assert stale.json["posts"]["stale"] is False
            # The loop's clock counts whole milliseconds, and may not have moved since the first.
            assert stale.headers["Cache-Status"] in {"posts; hit; ttl=0", "posts; hit; ttl=-1"}
        await asyncio.wait_for(upstream.arrivals.get(), 2)
        await asyncio.wait_for(upstream.arrivals.get(), 2)
        assert upstream.in_flight == 1
        release.set()
        assert await eventually(lambda: upstream.in_flight == 0)
        assert await service.leaks() == []
        fresh = await service.overview("?include=posts")
        assert fresh.json["posts"]["data"][0]["title"] == "new"
        assert fresh.headers["Cache-Status"] == "posts; hit; ttl=59"
        assert len(upstream.exchanges) == 2
