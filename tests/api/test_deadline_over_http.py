"""The deadline of a request: when its answer is sent, and the time left that upstreams get."""

import asyncio

import httpx
import pytest

from tests.fakes import now
from tests.in_process import (
    MODELS,
    TODO,
    HangingUpstream,
    ServiceClient,
    body_of,
    healthy_upstream,
    running_service,
)

pytestmark = pytest.mark.anyio


async def seconds_until_504(service: ServiceClient, **headers: str) -> float:
    start = now()
    assert (await service.overview("?include=posts", **headers)).status_code == 504
    return now() - start


@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        *((None, 2.0), ("300", 0.3), ("1", 0.001), ("10000", 10.0)),
        *(("10001", 10.0), (str(10**18), 10.0), (str(10**400), 10.0)),
    ],
)
async def test_the_answer_is_sent_by_its_deadline_and_the_upstream_gets_the_time_left(
    milliseconds: str | None, seconds: float
) -> None:
    upstream, posts = healthy_upstream(), HangingUpstream()
    upstream["posts"].mock(side_effect=posts)
    async with running_service(upstream, upstreams={"posts": {"attempt_timeout": 60}}) as service:
        headers = {} if milliseconds is None else {"X-Request-Timeout-Ms": milliseconds}
        assert await seconds_until_504(service, **headers) == pytest.approx(seconds, abs=0.05)
    time_left = posts.requests[0].headers["x-request-timeout-ms"]
    assert int(time_left) == pytest.approx(seconds * 1000, abs=1)


async def test_an_attempt_timeout_before_the_deadline_fails_only_its_section() -> None:
    upstream = healthy_upstream()
    upstream["posts"].mock(side_effect=HangingUpstream())
    short_attempts = {"posts": {"attempt_timeout": 0.5, "retries": 0}}
    async with running_service(upstream, upstreams=short_attempts) as service:
        assert await seconds_until_504(service) == pytest.approx(0.5)
        body = body_of(await service.overview(), MODELS.answer)
    assert body["posts"]["error"]["detail"] == "posts: no answer within 0.5 s"
    assert body["user"]["status"] == body["todos"]["status"] == "ok"


async def test_retries_end_at_the_deadline() -> None:
    upstream, posts = healthy_upstream(), HangingUpstream()
    upstream["posts"].mock(side_effect=posts)
    async with running_service(upstream, upstreams={"posts": {"attempt_timeout": 0.8}}) as service:
        assert await seconds_until_504(service) == pytest.approx(2.0)
        body = body_of(await service.overview(), MODELS.answer)
    assert body["posts"]["error"]["detail"] == "posts: no answer within 0.8 s, 3 attempts"
    time_left = [int(one.headers["x-request-timeout-ms"]) for one in posts.requests[:3]]
    assert time_left[0] == pytest.approx(2000, abs=1)
    assert time_left[1] == pytest.approx(1200 - 12, abs=14)  # 0.8 s and up to 25 ms of backoff
    assert time_left[2] == pytest.approx(400 - 37, abs=39)


async def test_a_call_without_a_permit_by_its_deadline_is_overloaded() -> None:
    upstream, todos = healthy_upstream(), HangingUpstream()
    upstream["todos"].mock(side_effect=todos)
    one_permit = {"todos": {"attempt_timeout": 60, "concurrency": 1}}
    # In two languages, or the requests would be coalesced.
    async with running_service(
        upstream, upstreams=one_permit, forward_headers=("accept-language",)
    ) as service:
        first = asyncio.ensure_future(
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
        assert (await first).status_code == 504
    assert len(todos.requests) == 1


async def test_sections_without_room_in_the_fan_out_by_the_deadline_are_overloaded() -> None:
    upstream = healthy_upstream()
    upstream["user"].mock(side_effect=HangingUpstream())
    long_attempts = {"users": {"attempt_timeout": 60, "retries": 0}}
    async with running_service(upstream, fan_out=1, upstreams=long_attempts) as service:
        response = await service.overview()
    assert response.status_code == 504
    sections = body_of(response, MODELS.failed)["sections"]
    assert {name: section["error"]["reason"] for name, section in sections.items()} == {
        "user": "timeout",
        "posts": "overloaded",
        "todos": "overloaded",
    }
    assert not upstream["posts"].called


async def test_a_request_has_no_more_than_its_fan_out_in_flight() -> None:
    upstream = healthy_upstream()
    in_flight = max_in_flight = 0

    async def counting(_: httpx.Request) -> httpx.Response:
        nonlocal in_flight, max_in_flight
        in_flight += 1
        max_in_flight = max(max_in_flight, in_flight)
        await asyncio.sleep(0.1)
        in_flight -= 1
        return httpx.Response(200, json=[TODO])

    upstream["posts"].mock(side_effect=counting)
    upstream["todos"].mock(side_effect=counting)
    async with running_service(
        upstream, fan_out=1, forward_headers=("accept-language",)
    ) as service:
        assert (await service.overview("?include=posts,todos")).status_code == 200
        assert max_in_flight == 1
        assert now() == pytest.approx(0.2)
        requests = (service.overview("?include=todos", Accept_Language=one) for one in "abcde")
        await asyncio.gather(*requests)
        assert max_in_flight == 5
        assert all(one.bulkhead.in_flight == 0 for one in service.state.upstreams.values())
