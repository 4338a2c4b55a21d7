"""When the answer is out, and what the upstream is told of it."""

import asyncio

import httpx
import pytest

from tests.fakes import now
from tests.in_process import MODELS, TODO, Hanging, Running, body_of, healthy, running_service

pytestmark = pytest.mark.anyio


async def seconds_of(service: Running, **headers: str) -> float:
    began = now()
    assert (await service.overview("?include=posts", **headers)).status_code == 504
    return now() - began


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        *((None, 2.0), ("300", 0.3), ("1", 0.001), ("10000", 10.0)),
        *(("10001", 10.0), (str(10**18), 10.0), (str(10**400), 10.0)),
    ],
)
async def test_the_answer_is_out_by_its_deadline(milliseconds: str | None, seconds: float) -> None:
    upstream, posts = healthy(), Hanging()
    upstream["posts"].mock(side_effect=posts)
    async with running_service(upstream, upstreams={"posts": {"attempt_timeout": 60}}) as service:
        headers = {} if milliseconds is None else {"X-Request-Timeout-Ms": milliseconds}
        assert await seconds_of(service, **headers) == pytest.approx(seconds, abs=0.05)
    left = posts.asked[0].headers["x-request-timeout-ms"]
    assert int(left) == pytest.approx(seconds * 1000, abs=1)


async def test_an_attempt_has_less_time_than_the_whole() -> None:
    upstream = healthy()
    upstream["posts"].mock(side_effect=Hanging())
    alone = {"posts": {"attempt_timeout": 0.5, "retries": 0}}
    async with running_service(upstream, upstreams=alone) as service:
        assert await seconds_of(service) == pytest.approx(0.5)
        body = body_of(await service.overview(), MODELS.answer)
    assert body["posts"]["error"]["detail"] == "posts: no answer within 0.5 s"
    assert body["user"]["status"] == body["todos"]["status"] == "ok"


async def test_what_is_tried_again_ends_with_the_deadline_all_the_same() -> None:
    upstream, posts = healthy(), Hanging()
    upstream["posts"].mock(side_effect=posts)
    async with running_service(upstream, upstreams={"posts": {"attempt_timeout": 0.8}}) as service:
        assert await seconds_of(service) == pytest.approx(2.0)
        body = body_of(await service.overview(), MODELS.answer)
    assert body["posts"]["error"]["detail"] == "posts: no answer within 0.8 s, 3 attempts"
    left = [int(one.headers["x-request-timeout-ms"]) for one in posts.asked[:3]]
    assert left[0] == pytest.approx(2000, abs=1)
    assert left[1] == pytest.approx(1200 - 12, abs=14)  # 0.8 s and a wait of up to 25 ms later
    assert left[2] == pytest.approx(400 - 37, abs=39)


async def test_what_finds_no_capacity_until_the_deadline_is_overloaded() -> None:
    upstream, todos = healthy(), Hanging()
    upstream["todos"].mock(side_effect=todos)
    scarce = {"todos": {"attempt_timeout": 60, "concurrency": 1}}
    # In two languages, or both would share one attempt.
    async with running_service(
        upstream, upstreams=scarce, forward_headers=("accept-language",)
    ) as service:
        patient = asyncio.ensure_future(
            service.overview("?include=todos", X_Request_Timeout_Ms="9000")
        )
        await asyncio.sleep(0.1)
        response = await service.overview(
            "?include=todos", X_Request_Timeout_Ms="1000", Accept_Language="nn"
        )
        assert now() == pytest.approx(1.1, abs=0.05)
        assert response.status_code == 503
        error = body_of(response, MODELS.failed)["sections"]["todos"]["error"]
        assert (error["reason"], error["attempts"]) == ("overloaded", 0)
        assert int(response.headers["retry-after"]) >= 1
        assert (await patient).status_code == 504
    assert len(todos.asked) == 1


async def test_sections_that_wait_behind_another_until_the_deadline_are_overloaded() -> None:
    upstream = healthy()
    upstream["user"].mock(side_effect=Hanging())
    patient = {"users": {"attempt_timeout": 60, "retries": 0}}
    async with running_service(upstream, fan_out=1, upstreams=patient) as service:
        response = await service.overview()
    assert response.status_code == 504
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: one["error"]["reason"] for name, one in sections.items()} == {
        "user": "timeout",
        "posts": "overloaded",
        "todos": "overloaded",
    }
    assert not upstream["posts"].called


async def test_one_request_has_no_more_than_its_fan_out_in_flight() -> None:
    upstream = healthy()
    in_flight = most = 0

    async def counting(_: httpx.Request) -> httpx.Response:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        await asyncio.sleep(0.1)
        in_flight -= 1
        return httpx.Response(200, json=[TODO])

    upstream["posts"].mock(side_effect=counting)
    upstream["todos"].mock(side_effect=counting)
    async with running_service(
        upstream, fan_out=1, forward_headers=("accept-language",)
    ) as service:
        assert (await service.overview("?include=posts,todos")).status_code == 200
        assert most == 1
        assert now() == pytest.approx(0.2)
        asking = (service.overview("?include=todos", Accept_Language=one) for one in "abcde")
        await asyncio.gather(*asking)
        assert most == 5
        assert all(one.bulkhead.in_flight == 0 for one in service.service.upstreams.values())
