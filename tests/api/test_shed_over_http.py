"""Load shedding: a request that would wait in vain is refused on arrival."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.fakes import now
from tests.in_process import (
    MODELS,
    SECTIONS,
    HangingUpstream,
    ServiceClient,
    body_of,
    every_upstream,
    healthy_upstream,
    log_lines,
    replace_route,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

ONE_PERMIT: dict[str, Any] = {
    "upstreams": every_upstream(concurrency=1, attempt_timeout=60, retries=0, ttl=600),
    "forward_headers": ("accept-language",),
}


@asynccontextmanager
async def overloaded(service: ServiceClient, *sections: str) -> AsyncIterator[None]:
    """One request has the one permit of each section's upstream, and another waits for it.

    Attempts take 1.5 s, so that a third request would wait for 3 s.
    """
    requests = [
        asyncio.ensure_future(
            service.overview(
                f"?include={','.join(sections)}",
                Accept_Language=language,
                X_Request_Timeout_Ms="9000",
            )
        )
        for language in ("en", "nb")
    ]
    await asyncio.sleep(0.1)
    for name in sections:
        latency = service.state.upstreams["users" if name == "user" else name].latency
        for _ in range(20):
            latency.add(1.5)
    yield
    for task in requests:
        assert not task.done()
        task.cancel()
    await asyncio.wait(requests)


async def test_a_request_that_would_wait_past_its_deadline_is_shed_on_arrival(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hanging = HangingUpstream()
    async with (
        running_service(
            upstream_with(user=hanging, posts=hanging, todos=hanging), **ONE_PERMIT
        ) as service,
        overloaded(service, *SECTIONS),
    ):
        start = now()
        response = await service.overview(
            Accept_Language="nn", X_Request_Timeout_Ms="5000", X_Request_ID="find-me"
        )
        assert now() == start
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "3"
        problem = body_of(response, MODELS.failed)
        assert problem["type"] == "/problems/overloaded"
        for name in SECTIONS:
            error = problem["sections"][name]["error"]
            assert (error["reason"], error["attempts"]) == ("overloaded", 0)
            assert error["retry_after"] == 3.0
        (line,) = log_lines(capsys, "request")
        assert (line["status"], line["request_id"]) == (503, "find-me")
        assert line["failed"] == dict.fromkeys(SECTIONS, "overloaded")
    assert len(hanging.requests) == 3


@pytest.mark.parametrize(("language", "milliseconds"), [("nn", "7000"), ("en", "1000")])
async def test_a_request_with_a_longer_deadline_or_a_coalesced_one_is_not_shed(
    language: str, milliseconds: str
) -> None:
    hanging = HangingUpstream()
    async with (
        running_service(
            upstream_with(user=hanging, posts=hanging, todos=hanging), **ONE_PERMIT
        ) as service,
        overloaded(service, *SECTIONS),
    ):
        request = asyncio.ensure_future(
            service.overview(Accept_Language=language, X_Request_Timeout_Ms=milliseconds)
        )
        await asyncio.sleep(0.5)
        assert not request.done()
        request.cancel()
        await asyncio.wait([request])


async def test_a_request_is_not_shed_if_one_section_has_capacity() -> None:
    async with (
        running_service(upstream_with(posts=HangingUpstream()), **ONE_PERMIT) as service,
        overloaded(service, "posts"),
    ):
        body = body_of(await service.overview(Accept_Language="nn"), MODELS.answer)
        assert [body[name]["status"] for name in SECTIONS] == ["ok", "failed", "ok"]
        assert body["posts"]["error"]["reason"] == "overloaded"


async def test_a_cached_answer_is_not_shed() -> None:
    upstream = healthy_upstream()
    async with running_service(upstream, **ONE_PERMIT) as service:
        await service.overview(Accept_Language="nn")
        for name in SECTIONS:
            replace_route(upstream, name, HangingUpstream())
        async with overloaded(service, *SECTIONS):
            response = await service.overview(Accept_Language="nn")
            assert body_of(response, MODELS.answer)["complete"] is True
