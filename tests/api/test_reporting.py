"""What the headers of an answer tell of how it came about."""

import asyncio
import re

import httpx
import pytest

from tests.in_process import (
    BROKEN,
    POST,
    Running,
    healthy,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

DURATION = re.compile(r"(\w+);dur=(\d+\.\d)(?:;desc=\"[a-z ]+\")?")


def durations(response: httpx.Response) -> dict[str, float]:
    parts = response.headers["server-timing"].split(", ")
    found = [DURATION.fullmatch(part) for part in parts]
    assert all(found), parts
    return {one[1]: float(one[2]) for one in found if one}


async def test_every_section_and_the_whole_are_timed(service: Running) -> None:
    assert list(durations(await service.overview())) == ["user", "posts", "todos", "total"]


async def test_a_skipped_section_took_no_time(service: Running) -> None:
    assert list(durations(await service.overview("?include=todos"))) == ["todos", "total"]


async def test_a_failed_section_took_its_time() -> None:
    async with running_service(upstream_with(posts=BROKEN)) as service:
        assert list(durations(await service.overview("?include=posts"))) == ["posts", "total"]


async def test_where_an_answer_came_from_is_told_by_upstream(service: Running) -> None:
    assert (await service.overview()).headers["cache-status"] == (
        "users; fwd=miss, posts; fwd=miss, todos; fwd=miss"
    )
    assert (await service.overview("?include=posts")).headers["cache-status"] == "posts; fwd=miss"


async def test_an_answer_varies_with_what_is_forwarded() -> None:
    async with running_service(
        healthy(), forward_headers=("Authorization", "accept-language")
    ) as service:
        vary = (await service.overview()).headers["vary"]
    assert {name.strip().lower() for name in vary.split(",")} == {
        "accept",
        "authorization",
        "accept-language",
    }


async def test_without_forwarding_an_answer_varies_with_what_is_accepted(service: Running) -> None:
    assert (await service.overview()).headers["vary"] == "Accept"


async def test_what_the_client_may_say_is_forwarded_and_nothing_else() -> None:
    upstream = healthy()
    secret = {"posts": {"headers": {"X-Api-Key": "key"}}}
    async with running_service(
        upstream, forward_headers=("authorization",), upstreams=secret
    ) as service:
        await service.overview(
            Authorization="Bearer t", Cookie="c=1", X_Other="o", X_Request_ID="r.1", Accept="x/y"
        )
    for name in ("user", "posts", "todos"):
        (call,) = upstream[name].calls
        headers = call.request.headers
        assert set(headers) == {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "authorization",
            "x-request-id",
            "x-request-timeout-ms",
        } | ({"x-api-key"} if name == "posts" else set())
        assert (headers["authorization"], headers["x-request-id"]) == ("Bearer t", "r.1")
        assert headers["accept"] == "application/json"


@pytest.mark.parametrize("posts", [httpx.Response(200, json=[POST]), httpx.Response(403), BROKEN])
async def test_nothing_of_the_upstream_leaks(posts: httpx.Response | Exception) -> None:
    if isinstance(posts, httpx.Response):
        posts.headers["X-Internal"] = posts.headers["Set-Cookie"] = "internal=1"
    secret = {"posts": {"headers": {"X-Api-Key": "our-key"}}}
    async with running_service(upstream_with(posts=posts), upstreams=secret) as service:
        for query in ("", "?require=posts"):
            response = await service.overview(query)
            answer = f"{response.headers} {response.text}"
            for word in ("upstream.test", "internal", "our-key", "broken"):
                assert word not in answer


def test_times_are_those_of_the_clock_on_the_wall() -> None:
    async def main() -> None:
        async with running_demo(demo_latency=0.03) as service:
            took = durations(await service.get("/v1/users/1/overview?include=user"))
            assert 30 <= took["user"] <= took["total"] < 1000
            failing = {"X-Demo-Fault": "posts=failing"}
            response = await service.get("/v1/users/1/overview?include=posts", headers=failing)
            assert 30 <= response.json()["sections"]["posts"]["error"]["elapsed_ms"] < 1000

    asyncio.run(main())
