"""What an upstream says of its answers' freshness, as it is kept to over a real connection."""

import asyncio
import json

import pytest

from tests.service.replies import posts, saying
from tests.service.running import eventually, running
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_TAG = '"one"'


def _titled(title: str) -> bytes:
    return json.dumps([{**posts(1)[0], "title": title}]).encode()


async def test_what_went_stale_is_asked_about_and_renewed_on_the_same_connection() -> None:
    async def tagged(exchange: Exchange) -> None:
        if exchange.headers.get("if-none-match") == _TAG:
            await saying(b"", "304 Not Modified", etag=_TAG, cache_control="max-age=60")(exchange)
        else:  # a second old already, and so stale from the start
            await saying(_titled("first"), etag=_TAG, cache_control="max-age=1", age=1)(exchange)

    async with running({"posts": tagged}) as service:
        answers = [await service.overview("?include=posts") for _ in range(3)]
        assert [answer.headers["Cache-Status"].split("; ", 1)[1] for answer in answers] == [
            "fwd=miss; stored",
            "fwd=stale; fwd-status=304; stored",
            "hit; ttl=59",
        ]
        assert len({answer.headers["ETag"] for answer in answers}) == 1
        assert {answer.json["posts"]["data"][0]["title"] for answer in answers} == {"first"}
        upstream = service.upstreams["posts"]
        assert ["if-none-match" in one.headers for one in upstream.seen] == [False, True]
        # What follows a 304 finds its connection whole.
        await service.overview("?include=posts", Cache_Control="no-cache")
        assert (len(upstream.seen), upstream.connections) == (3, 1)
        assert await service.leftovers() == []


async def test_what_may_be_used_while_it_is_asked_for_again_is_told_at_once() -> None:
    let_go = asyncio.Event()

    async def aging(exchange: Exchange) -> None:
        if len(service.upstreams["posts"].seen) == 1:
            control = "max-age=1, stale-while-revalidate=60"
            await saying(_titled("old"), cache_control=control, age=1)(exchange)
        else:
            await let_go.wait()
            await saying(_titled("new"), cache_control="max-age=60")(exchange)

    async with running({"posts": aging}) as service:
        upstream = service.upstreams["posts"]
        await service.overview("?include=posts")
        for _ in range(2):  # which share one refresh
            stale = await service.overview("?include=posts")
            assert stale.json["posts"]["data"][0]["title"] == "old"
            assert stale.json["posts"]["stale"] is False
            # The loop's clock has whole milliseconds, and may still show that of the first answer.
            assert stale.headers["Cache-Status"] in {"posts; hit; ttl=0", "posts; hit; ttl=-1"}
        await asyncio.wait_for(upstream.arrivals.get(), 2)
        await asyncio.wait_for(upstream.arrivals.get(), 2)
        assert upstream.in_flight == 1
        let_go.set()
        assert await eventually(lambda: upstream.in_flight == 0)
        assert await service.leftovers() == []
        fresh = await service.overview("?include=posts")
        assert fresh.json["posts"]["data"][0]["title"] == "new"
        assert fresh.headers["Cache-Status"] == "posts; hit; ttl=59"
        assert len(upstream.seen) == 2
