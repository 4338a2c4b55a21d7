import asyncio
from typing import Any

import pytest
import respx

from app.api.health import Alive, Readiness
from app.problems.responses import Problem
from tests.in_process import (
    BROKEN,
    Hanging,
    Running,
    body_of,
    each,
    healthy,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> respx.MockRouter:
    """An upstream that must not be asked: there is no route."""
    return respx.MockRouter()


async def test_a_process_that_answers_is_alive(service: Running) -> None:
    response = await service.get("/livez")
    assert (response.status_code, body_of(response, Alive)) == (200, {"status": "alive"})


async def test_a_service_that_has_started_is_ready(service: Running) -> None:
    response = await service.get("/readyz")
    assert (response.status_code, body_of(response, Readiness)) == (200, {"status": "ready"})
    assert response.headers["cache-control"] == "no-store"


AT_REST: dict[str, Any] = {
    "permits": {"in_use": 0, "limit": 64, "ceiling": 64, "queued": 0},
    "latency_ms": {"p50": None, "p95": None},
    "budget": 10.0,
    "mirrors": [{"breaker": "closed", "retry_after": None}],
}


@pytest.mark.parametrize("query", ["?verbose", "?verbose=", "?verbose=true"])
async def test_verbose_lists_every_upstream(query: str) -> None:
    mirrors = {"urls": "http://a.test,http://b.test", "concurrency": 3}
    async with running_service(healthy(), upstreams={"posts": mirrors}) as service:
        response = await service.get(f"/readyz{query}")
    assert body_of(response, Readiness)["upstreams"] == {
        "users": AT_REST,
        "posts": AT_REST
        | {
            "permits": {"in_use": 0, "limit": 3, "ceiling": 3, "queued": 0},
            "mirrors": AT_REST["mirrors"] * 2,
        },
        "todos": AT_REST,
    }
    assert "test" not in response.text  # what an upstream is called is nobody's business


async def health(service: Running, upstream: str) -> Any:
    return body_of(await service.get("/readyz?verbose"), Readiness)["upstreams"][upstream]


async def test_verbose_shows_who_is_served_and_who_waits() -> None:
    upstream = upstream_with(posts=Hanging())
    scarce = {"posts": {"concurrency": 1, "attempt_timeout": 5}}
    async with running_service(
        upstream, upstreams=scarce, forward_headers=("accept-language",)
    ) as service:
        asking = [
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
        await asyncio.gather(*asking)
        assert (await health(service, "posts"))["permits"]["in_use"] == 0


async def test_verbose_shows_what_was_learnt_of_an_upstream() -> None:
    async with running_service(upstream_with(posts=BROKEN), upstreams=each(retries=1)) as service:
        for _ in range(19):
            await service.overview("?include=todos,posts")
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


async def test_a_draining_service_is_alive_and_wants_no_traffic(service: Running) -> None:
    service.service.draining = True
    response = await service.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) >= 1
    slug = body_of(response, Problem)["type"]
    assert (await service.get(slug)).status_code == 200
    assert (await service.get("/livez")).status_code == 200


async def test_a_draining_service_still_answers() -> None:
    async with running_service(healthy()) as service:
        service.service.draining = True
        assert (await service.overview()).status_code == 200
