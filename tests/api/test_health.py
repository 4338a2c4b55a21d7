import pytest
import respx

from app.api.health import Alive, Readiness
from app.api.problems import Problem
from tests.api.serving import Running, healthy, serving, told

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> respx.MockRouter:
    """An upstream that must not be asked: there is no route."""
    return respx.MockRouter()


async def test_a_process_that_answers_is_alive(service: Running) -> None:
    response = await service.get("/livez")
    assert (response.status_code, told(response, Alive)) == (200, {"status": "alive"})


async def test_a_service_that_has_started_is_ready(service: Running) -> None:
    response = await service.get("/readyz")
    assert (response.status_code, told(response, Readiness)) == (200, {"status": "ready"})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("query", ["?verbose", "?verbose=", "?verbose=true"])
async def test_verbose_lists_every_upstream(query: str) -> None:
    async with serving(healthy(), upstreams={"posts": {"concurrency": 3}}) as service:
        body = told(await service.get(f"/readyz{query}"), Readiness)
    assert body["upstreams"] == {
        "users": {"in_flight": 0, "concurrency": 64},
        "posts": {"in_flight": 0, "concurrency": 3},
        "todos": {"in_flight": 0, "concurrency": 64},
    }


async def test_a_draining_service_is_alive_and_wants_no_traffic(service: Running) -> None:
    service.service.draining = True
    response = await service.get("/readyz")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["retry-after"]) >= 1
    slug = told(response, Problem)["type"]
    assert (await service.get(slug)).status_code == 200
    assert (await service.get("/livez")).status_code == 200


async def test_a_draining_service_still_answers() -> None:
    async with serving(healthy()) as service:
        service.service.draining = True
        assert (await service.overview()).status_code == 200
