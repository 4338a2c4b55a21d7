"""The service on its demo upstreams: its latency, and faults by `X-Demo-Fault`."""

import asyncio

import pytest

from app.problems.responses import InvalidRequest
from tests.fakes import now
from tests.in_process import MODELS, ServiceClient, body_of, running_demo

pytestmark = pytest.mark.anyio


async def overview_of(
    service: ServiceClient, fault: str = "", query: str = ""
) -> dict[str, object]:
    headers = {"X-Demo-Fault": fault} if fault else {}
    response = await service.get(f"/v1/users/1/overview{query}", headers=headers)
    assert response.status_code == 200
    overview = body_of(response, MODELS.answer)
    assert isinstance(overview, dict)
    return overview


async def test_the_demo_gives_a_complete_answer() -> None:
    async with running_demo() as service:
        assert (await overview_of(service))["complete"] is True


async def test_three_calls_take_the_demo_latency_once() -> None:
    async with running_demo(demo_latency=0.1) as service:
        await overview_of(service)
        assert now() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("fault", "section", "reason"),
    [
        ("posts=slow", "posts", "timeout"),
        ("todos=failing", "todos", "upstream_status"),
        ("user=malformed", "user", "invalid_payload"),
        ("posts=missing", "posts", "upstream_status"),
    ],
)
async def test_a_demo_fault_fails_its_section(fault: str, section: str, reason: str) -> None:
    async with running_demo() as service:
        overview = await overview_of(service, fault)
    failed = {
        name: section["error"]["reason"]
        for name, section in overview.items()
        if isinstance(section, dict) and section["status"] == "failed"
    }
    assert failed == {section: reason}


async def test_a_demo_fault_drops_an_item_or_makes_the_user_a_404() -> None:
    async with running_demo() as service:
        posts = (await overview_of(service, "posts=bad_item"))["posts"]
        assert isinstance(posts, dict)
        assert posts["dropped"] == 1
        missing = await service.get(
            "/v1/users/1/overview", headers={"X-Demo-Fault": "user=missing"}
        )
        assert missing.status_code == 404
        assert (await service.get("/v1/users/999/overview")).status_code == 404


@pytest.mark.parametrize("fault", ["posts=slwo", "friends=slow", "posts"])
async def test_a_misspelt_demo_fault_is_a_422_that_names_the_header(fault: str) -> None:
    async with running_demo() as service:
        response = await service.get("/v1/users/1/overview", headers={"X-Demo-Fault": fault})
    assert response.status_code == 422
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (error["location"], error["parameter"].lower()) == ("header", "x-demo-fault")


async def test_timeouts_of_all_sections_are_a_504_by_the_deadline() -> None:
    async with running_demo() as service:
        headers = {"X-Demo-Fault": "user=slow, posts=slow, todos=slow"}
        response = await service.get("/v1/users/1/overview", headers=headers)
    assert response.status_code == 504
    assert now() == pytest.approx(2.0)
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: section["error"]["attempts"] for name, section in sections.items()} == {
        "user": 3,
        "posts": 3,
        "todos": 3,
    }


async def test_answers_vary_by_demo_fault() -> None:
    async with running_demo() as service:
        response = await service.get("/v1/users/1/overview")
        assert "x-demo-fault" in response.headers["vary"].lower()
        await asyncio.gather(*(overview_of(service, fault) for fault in ("posts=failing", "")))
