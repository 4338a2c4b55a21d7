"""Each way in which one upstream breaks: its own section fails, and the others do not."""

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import Reason
from tests.service import faults
from tests.service.faults import post_with_id, with_post
from tests.service.replies import SECRET, good, never, respond_with
from tests.service.running import NOISE, Response, RunningService, running_service
from tests.service.upstream import Exchange, Reply, Upstream, refused

pytestmark = pytest.mark.anyio

_DEADLINE = 0.7
_DEADLINE_MS = "700"
_LIMITS = {"attempt_timeout": 0.5, "retries": 0}
_MAX_MEMORY = 32 * 2**20

_FAULTS: dict[str, tuple[Reply, Reason]] = {
    "no response": (never, "timeout"),
    "dripping body": (faults.dripping_body, "timeout"),
    "dripping head": (faults.dripping_head, "timeout"),
    "truncated": (faults.truncated, "unreachable"),
    "reset in the body": (faults.reset_in_body, "unreachable"),
    "closed at once": (faults.closed_at_once, "unreachable"),
    "refused": (refused, "unreachable"),
    "garbage instead of HTTP": (faults.garbage, "unreachable"),
    "two content-lengths": (faults.two_content_lengths, "unreachable"),
    "5,000 headers": (faults.too_many_headers, "unreachable"),
    "404": (respond_with(b"{}", "404 Not Found"), "upstream_status"),
    "500": (respond_with(SECRET.encode(), f"500 {SECRET}"), "upstream_status"),
    "503": (respond_with(b"", "503 Service Unavailable", retry_after=7), "upstream_status"),
    "429": (respond_with(b"", "429 Too Many Requests", retry_after=3), "overloaded"),
    "403 with a secret": (respond_with(SECRET.encode(), "403 Forbidden"), "upstream_status"),
    "204": (faults.no_content, "upstream_status"),
    "empty 200": (respond_with(b""), "invalid_payload"),
    "null": (respond_with(b"null"), "invalid_payload"),
    "HTML": (respond_with(b"<p>" + SECRET.encode(), content_type="text/html"), "invalid_payload"),
    "HTML called JSON": (respond_with(b"<p>" + SECRET.encode()), "invalid_payload"),
    "no content type": (respond_with(b"[]", content_type=None), "invalid_payload"),
    "invalid JSON": (respond_with(b'[{"userId":1,'), "invalid_payload"),
    "NaN": (post_with_id(b"NaN"), "invalid_payload"),
    "NaN in an unknown field": (with_post(score=float("nan")), "invalid_payload"),
    "invalid UTF-8": (respond_with(b'["\xff"]'), "invalid_payload"),
    "5,000 digits": (post_with_id(b"7" * 5000), "invalid_payload"),
    "200,000 brackets": (respond_with(b"[" * 200_000 + b"]" * 200_000), "invalid_payload"),
    "1 GiB chunked": (faults.endless_chunks, "invalid_payload"),
    "gzip bomb of 1 GiB": (faults.gzip_bomb(1024), "invalid_payload"),
    "gzip bomb of 100 MiB": (faults.gzip_bomb(100), "invalid_payload"),
    "invalid gzip": (respond_with(b"[]", content_encoding="gzip"), "invalid_payload"),
    "only broken items": (respond_with(b'[{"userId":"%b"}]' % SECRET.encode()), "invalid_payload"),
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_fault_fails_its_own_section_only(fault: str) -> None:
    reply, reason = _FAULTS[fault]
    async with running_service({"posts": reply}, _LIMITS) as service:
        overview = await _overview(service)
        assert overview["complete"] is False
        assert overview["user"]["status"] == overview["todos"]["status"] == "ok"
        assert overview["posts"]["status"] == "failed"
        error = overview["posts"]["error"]
        assert error["reason"] == reason
        assert (error["section"], error["attempts"]) == ("posts", 1)
        assert error["retry_after"] == {"503": 7, "429": 3}.get(fault)


_WITHOUT_RETRY_AFTER = {
    "503": respond_with(b"", "503 Service Unavailable"),
    "429": respond_with(b"", "429 Too Many Requests", retry_after=0),
}


@pytest.mark.parametrize(
    "fault",
    [
        *("no response", "truncated", "reset in the body", "closed at once", "503"),
        *("garbage instead of HTTP", "429"),
    ],
)
async def test_a_retry_recovers_from_a_fault_that_happens_once(fault: str) -> None:
    reply, _ = _FAULTS[fault]
    reply = _WITHOUT_RETRY_AFTER.get(fault, reply)
    exchanges: list[Exchange] = []

    async def faulty_at_first(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await (good if len(exchanges) > 1 else reply)(exchange)

    async with running_service({"posts": faulty_at_first}, {"attempt_timeout": 0.2}) as service:
        assert (await _overview(service))["complete"] is True
        assert len(exchanges) == 2


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        *(("no response", 2), ("dripping body", 2), ("refused", 3), ("500", 3)),
        *(("truncated", 3), ("1 GiB chunked", 1), ("gzip bomb of 1 GiB", 1), ("404", 1)),
    ],
)
async def test_a_fault_that_outlasts_the_retries_fails_the_section_before_the_deadline(
    fault: str, attempts: int
) -> None:
    reply, reason = _FAULTS[fault]
    async with running_service({"posts": reply}, {"attempt_timeout": 0.5}) as service:
        error = (await _overview(service))["posts"]["error"]
        assert (error["reason"], error["attempts"]) == (reason, attempts)


@pytest.mark.parametrize(
    ("reply", "dropped"),
    [(with_post(id=SECRET), 1), (with_post(likes=SECRET), 0)],
    ids=["one broken item", "an unknown field"],
)
async def test_broken_items_are_dropped_and_unknown_fields_are_ignored(
    reply: Reply, dropped: int
) -> None:
    async with running_service({"posts": reply}, _LIMITS) as service:
        overview = await _overview(service)
        assert overview["complete"] is (dropped == 0)
        assert (overview["posts"]["status"], overview["posts"]["dropped"]) == ("ok", dropped)
        assert len(overview["posts"]["data"]) == 4 - dropped


async def test_a_redirect_is_not_followed() -> None:
    async with Upstream(good) as target:
        redirect = respond_with(b"", "302 Found", location=f"{target.url}/posts?userId=1")
        async with running_service({"posts": redirect}, _LIMITS) as service:
            overview = await _overview(service)
            assert overview["posts"]["error"]["reason"] == "upstream_status"
            assert target.connections == 0


async def test_a_user_that_does_not_exist_gives_404() -> None:
    async with running_service(each=_LIMITS) as service:
        response = await service.get("/v1/users/999/overview", X_Request_ID="one")
        assert response.status == 404
        assert response.json["type"] == "/problems/not_found"
        await _check(service, response)


async def test_a_malformed_user_does_not_fail_the_other_sections() -> None:
    malformed = respond_with(b'{"id": "%b"}' % SECRET.encode())
    async with running_service({"users": malformed}, _LIMITS) as service:
        overview = await _overview(service)
        assert overview["user"]["error"]["reason"] == "invalid_payload"
        assert overview["posts"]["status"] == overview["todos"]["status"] == "ok"


async def _overview(service: RunningService) -> Any:
    """The overview, after checking what must hold whatever an upstream does."""
    for mebibytes in (100, 1024):
        faults.gzipped_zeros(mebibytes)  # cached now, so that it does not count below
    before = _peak_memory(reset=True)
    # A fixed request id: a random one sometimes contains the digits of a port.
    response = await service.overview(X_Request_ID="one", X_Request_Timeout_Ms=_DEADLINE_MS)
    assert _peak_memory() - before < _MAX_MEMORY
    assert response.status == 200
    await _check(service, response)
    return response.json


async def _check(service: RunningService, response: Response) -> None:
    """In time, without a secret or an upstream's address, and without a leak."""
    assert response.seconds < _DEADLINE + 0.05 + NOISE
    assert SECRET not in response.raw
    for upstream in service.upstreams.values():
        assert str(upstream.port) not in response.raw
    assert "127.0.0.1" not in response.raw
    assert "http://" not in response.raw
    assert await service.leaks() == []


def _peak_memory(*, reset: bool = False) -> int:
    """The peak memory of this process in bytes, since its start or since the last `reset`.

    The upstreams are in this process too; they send even their largest bodies from small buffers.
    """
    if reset:
        with contextlib.suppress(OSError):  # on other systems than Linux, only a higher peak shows
            Path("/proc/self/clear_refs").write_text("5")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
