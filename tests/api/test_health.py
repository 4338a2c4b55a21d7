"""`/livez` and `/readyz`."""

import asyncio
from typing import Any

import pytest
import respx

from app.api.health import Alive, Readiness
from app.problems.responses import Problem
from tests.in_process import (
    CONNECT_ERROR,
    HangingUpstream,
    ServiceClient,
    body_of,
    every_upstream,
    healthy_upstream,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> respx.MockRouter:
    """An upstream that must get no request: it has no route."""
    return respx.MockRouter()


async def test_livez_is_a_200(service: ServiceClient) -> None:
    response = await service.get("/livez")
    assert (response.status_code, body_of(response, Alive)) == (200, {"status": "alive"})


async def test_readyz_is_a_200_once_the_service_has_started(service: ServiceClient) -> None:
    response = await service.get("/readyz")
    assert (response.status_code, body_of(response, Readiness)) == (200, {"status": "ready"})
    assert response.headers["cache-control"] == "no-store"


IDLE: dict[str, Any] = {
    "permits": {"in_use": 0, "limit": 64, "ceiling": 64, "queued": 0},
    "latency_ms": {"p50": None, "p95": None},
    "budget": 10.0,
    "mirrors": [{"breaker": "closed", "retry_after": None}],
}


@pytest.mark.parametrize("query", ["?verbose", "?verbose=", "?verbose=true"])
async def test_readyz_verbose_lists_every_upstream(query: str) -> None:
    posts = {"urls": "http://a.test,http://b.test", "concurrency": 3}
    async with running_service(healthy_upstream(), upstreams={"posts": posts}) as service:
        response = await service.get(f"/readyz{query}")
    assert body_of(response, Readiness)["upstreams"] == {
        "users": IDLE,
        "posts": IDLE
        | {
            "permits": {"in_use": 0, "limit": 3, "ceiling": 3, "queued": 0},
            "mirrors": IDLE["mirrors"] * 2,
        },
        "todos": IDLE,
    }
    assert "test" not in response.text  # no host of an upstream


async def health(service: ServiceClient, upstream: str) -> Any:
    return body_of(await service.get("/readyz?verbose"), Readiness)["upstreams"][upstream]


async def test_readyz_verbose_counts_permits_and_queued_calls() -> None:
    upstream = upstream_with(posts=HangingUpstream())
    one_permit = {"posts": {"concurrency": 1, "attempt_timeout": 5}}
    async with running_service(
        upstream, upstreams=one_permit, forward_headers=("accept-language",)
    ) as service:
        requests = [
            asyncio.ensure_future(service.overview("?include=posts", Accept_Language=language))
            for language in ("en", "nb", "nn")
        ]
        await asyncio.sleep(0.1)
        assert (await health(service, "posts"))["permits"] == {
            "in_use": 1,
            "limit": 1,
            "ceiling": 1,
            "queued": 2,
        }
        await asyncio.gather(*requests)
        assert (await health(service, "posts"))["permits"]["in_use"] == 0


async def test_readyz_verbose_shows_latency_retry_budget_and_breaker() -> None:
    async with running_service(
        upstream_with(posts=CONNECT_ERROR),
        upstreams=every_upstream(retries=1),
        forward_headers=("accept-language",),
    ) as service:
        for n in range(19):
            await service.overview("?include=todos,posts", Accept_Language=f"l{n}")
        assert (await health(service, "todos"))["latency_ms"] == {"p50": None, "p95": None}
        await service.overview("?include=todos,posts")
        todos, posts = await health(service, "todos"), await health(service, "posts")
        assert 0 < todos["latency_ms"]["p50"] <= todos["latency_ms"]["p95"] < 1000
        assert posts["budget"] < todos["budget"] == 10.0
        assert todos["mirrors"] == [{"breaker": "closed", "retry_after": None}]
        (mirror,) = posts["mirrors"]
        assert mirror["breaker"] == "open"
        assert 0 < mirror["retry_after"] <= 1
        await asyncio.sleep(1)
        (mirror,) = (await health(service, "posts"))["mirrors"]
        assert mirror == {"breaker": "half_open", "retry_after": 0.0}


async def test_a_draining_service_is_alive_but_not_ready(service: ServiceClient) -> None:
    service.state.draining = True
    response = await service.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) >= 1
    slug = body_of(response, Problem)["type"]
    assert (await service.get(slug)).status_code == 200
    assert (await service.get("/livez")).status_code == 200


async def test_a_draining_service_still_answers_requests() -> None:
    async with running_service(healthy_upstream()) as service:
        service.state.draining = True
        assert (await service.overview()).status_code == 200
