"""The service with nothing configured."""

import asyncio

import pytest

from app.problems.responses import InvalidRequest
from tests.fakes import now
from tests.in_process import MODELS, Running, body_of, running_demo

pytestmark = pytest.mark.anyio


async def ask(service: Running, fault: str = "", query: str = "") -> dict[str, object]:
    headers = {"X-Demo-Fault": fault} if fault else {}
    response = await service.get(f"/v1/users/1/overview{query}", headers=headers)
    assert response.status_code == 200
    overview = body_of(response, MODELS.answer)
    assert isinstance(overview, dict)
    return overview


async def test_the_demo_answers_complete() -> None:
    async with running_demo() as service:
        assert (await ask(service))["complete"] is True


async def test_three_calls_take_the_time_of_one() -> None:
    async with running_demo(demo_latency=0.1) as service:
        await ask(service)
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
async def test_a_section_misbehaves_as_asked(fault: str, section: str, reason: str) -> None:
    async with running_demo() as service:
        overview = await ask(service, fault)
    failed = {
        name: one["error"]["reason"]
        for name, one in overview.items()
        if isinstance(one, dict) and one["status"] == "failed"
    }
    assert failed == {section: reason}


async def test_an_item_may_be_spoilt_and_a_user_missing() -> None:
    async with running_demo() as service:
        posts = (await ask(service, "posts=bad_item"))["posts"]
        assert isinstance(posts, dict)
        assert posts["dropped"] == 1
        missing = await service.get(
            "/v1/users/1/overview", headers={"X-Demo-Fault": "user=missing"}
        )
        assert missing.status_code == 404
        assert (await service.get("/v1/users/999/overview")).status_code == 404


@pytest.mark.parametrize("fault", ["posts=slwo", "friends=slow", "posts"])
async def test_a_typo_in_a_fault_is_refused_by_its_name(fault: str) -> None:
    async with running_demo() as service:
        response = await service.get("/v1/users/1/overview", headers={"X-Demo-Fault": fault})
    assert response.status_code == 422
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (error["location"], error["parameter"].lower()) == ("header", "x-demo-fault")


async def test_everything_late_is_a_504_in_time() -> None:
    async with running_demo() as service:
        headers = {"X-Demo-Fault": "user=slow, posts=slow, todos=slow"}
        response = await service.get("/v1/users/1/overview", headers=headers)
    assert response.status_code == 504
    assert now() == pytest.approx(2.0)
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: one["error"]["attempts"] for name, one in sections.items()} == {
        "user": 3,
        "posts": 3,
        "todos": 3,
    }


async def test_answers_differ_by_fault_and_say_so() -> None:
    async with running_demo() as service:
        response = await service.get("/v1/users/1/overview")
        assert "x-demo-fault" in response.headers["vary"].lower()
        await asyncio.gather(*(ask(service, fault) for fault in ("posts=failing", "")))
