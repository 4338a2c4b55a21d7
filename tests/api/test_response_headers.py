"""Server-Timing, Cache-Status and Vary of an answer; and nothing of its upstreams."""

import asyncio
import re

import httpx
import pytest

from tests.in_process import (
    CONNECT_ERROR,
    POST,
    ServiceClient,
    healthy_upstream,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

DURATION = re.compile(r"(\w+);dur=(\d+\.\d)(?:;desc=\"[a-z ]+\")?")


def durations(response: httpx.Response) -> dict[str, float]:
    metrics = response.headers["server-timing"].split(", ")
    matches = [DURATION.fullmatch(metric) for metric in metrics]
    assert all(matches), metrics
    return {match[1]: float(match[2]) for match in matches if match}


async def test_server_timing_has_every_section_and_the_total(service: ServiceClient) -> None:
    assert list(durations(await service.overview())) == ["user", "posts", "todos", "total"]


async def test_server_timing_has_no_skipped_section(service: ServiceClient) -> None:
    assert list(durations(await service.overview("?include=todos"))) == ["todos", "total"]


async def test_server_timing_has_a_failed_section() -> None:
    async with running_service(upstream_with(posts=CONNECT_ERROR)) as service:
        assert list(durations(await service.overview("?include=posts"))) == ["posts", "total"]


async def test_cache_status_has_a_member_for_each_upstream(service: ServiceClient) -> None:
    assert (await service.overview()).headers["cache-status"] == (
        "users; fwd=miss, posts; fwd=miss, todos; fwd=miss"
    )
    assert (await service.overview("?include=posts")).headers["cache-status"] == "posts; fwd=miss"


async def test_vary_names_the_forwarded_headers() -> None:
    async with running_service(
        healthy_upstream(), forward_headers=("Authorization", "accept-language")
    ) as service:
        vary = (await service.overview()).headers["vary"]
    assert {name.strip().lower() for name in vary.split(",")} == {
        *("accept", "accept-encoding"),
        "authorization",
        "accept-language",
    }


async def test_vary_is_what_is_accepted_without_forwarded_headers(service: ServiceClient) -> None:
    assert (await service.overview()).headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(
    "posts", [httpx.Response(200, json=[POST]), httpx.Response(403), CONNECT_ERROR]
)
async def test_a_response_leaks_nothing_of_the_upstream(posts: httpx.Response | Exception) -> None:
    if isinstance(posts, httpx.Response):
        posts.headers["X-Internal"] = posts.headers["Set-Cookie"] = "internal=1"
    api_key = {"posts": {"headers": {"X-Api-Key": "our-key"}}}
    async with running_service(upstream_with(posts=posts), upstreams=api_key) as service:
        for query in ("", "?require=posts"):
            response = await service.overview(query)
            sent = f"{response.headers} {response.text}"
            for word in ("upstream.test", "internal", "our-key", "broken"):
                assert word not in sent


def test_server_timing_and_elapsed_ms_are_wall_clock_times() -> None:
    async def main() -> None:
        async with running_demo(demo_latency=0.03) as service:
            ms = durations(await service.get("/v1/users/1/overview?include=user"))
            assert 30 <= ms["user"] <= ms["total"] < 1000
            failing = {"X-Demo-Fault": "posts=failing"}
            response = await service.get("/v1/users/1/overview?include=posts", headers=failing)
            assert 30 <= response.json()["sections"]["posts"]["error"]["elapsed_ms"] < 1000

    asyncio.run(main())
