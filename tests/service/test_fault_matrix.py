"""Every way in which one upstream breaks, one test each: its own section fails, and no more."""

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from app.errors import Reason
from tests.service import faults
from tests.service.faults import only_post, with_post
from tests.service.replies import SECRET, good, never, saying
from tests.service.running import NOISE, Answered, Running, running
from tests.service.upstream import Exchange, Reply, Upstream, refused

pytestmark = pytest.mark.anyio

_DEADLINE = 0.7
_DEADLINE_MS = "700"
_LIMITS = {"attempt_timeout": 0.5, "retries": 0}
_MEMORY = 32 * 2**20

_TOO_MANY = saying(b"", "429 Too Many Requests", retry_after=0)

_FAULTS: dict[str, tuple[Reply, Reason]] = {
    "never answers": (never, "timeout"),
    "drips a byte now and then": (faults.drips, "timeout"),
    "slow head": (faults.slow_head, "timeout"),
    "truncated": (faults.truncated, "unreachable"),
    "reset in the body": (faults.resets_in_the_body, "unreachable"),
    "closed at once": (faults.closes_at_once, "unreachable"),
    "refused": (refused, "unreachable"),
    "garbage instead of HTTP": (faults.garbage, "unreachable"),
    "two content-lengths": (faults.two_lengths, "unreachable"),
    "5,000 headers": (faults.header_flood, "unreachable"),
    "404": (saying(b"{}", "404 Not Found"), "upstream_status"),
    "500": (saying(SECRET.encode(), f"500 {SECRET}"), "upstream_status"),
    "503": (saying(b"", "503 Service Unavailable", retry_after=7), "upstream_status"),
    "429": (saying(b"", "429 Too Many Requests", retry_after=3), "overloaded"),
    "403 with a secret": (saying(SECRET.encode(), "403 Forbidden"), "upstream_status"),
    "204": (faults.no_content, "upstream_status"),
    "empty 200": (saying(b""), "invalid_payload"),
    "null": (saying(b"null"), "invalid_payload"),
    "HTML": (saying(b"<p>" + SECRET.encode(), content_type="text/html"), "invalid_payload"),
    "HTML called JSON": (saying(b"<p>" + SECRET.encode()), "invalid_payload"),
    "no content type": (saying(b"[]", content_type=None), "invalid_payload"),
    "invalid JSON": (saying(b'[{"userId":1,'), "invalid_payload"),
    "NaN": (only_post(b"NaN"), "invalid_payload"),
    "NaN in an unknown field": (with_post(score=float("nan")), "invalid_payload"),
    "invalid UTF-8": (saying(b'["\xff"]'), "invalid_payload"),
    "5,000 digits": (only_post(b"7" * 5000), "invalid_payload"),
    "200,000 brackets": (saying(b"[" * 200_000 + b"]" * 200_000), "invalid_payload"),
    "1 GiB in chunks": (faults.endless, "invalid_payload"),
    "gzip bomb of 1 GiB": (faults.bomb(1024), "invalid_payload"),
    "gzip bomb of 100 MiB": (faults.bomb(100), "invalid_payload"),
    "gzip that is none": (saying(b"[]", content_encoding="gzip"), "invalid_payload"),
    "only broken items": (saying(b'[{"userId":"%b"}]' % SECRET.encode()), "invalid_payload"),
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_fault_stays_in_its_own_section(fault: str) -> None:
    reply, reason = _FAULTS[fault]
    async with running({"posts": reply}, _LIMITS) as service:
        told = await _asked(service)
        assert told["complete"] is False
        assert told["user"]["status"] == told["todos"]["status"] == "ok"
        assert told["posts"]["status"] == "failed"
        error = told["posts"]["error"]
        assert error["reason"] == reason
        assert (error["section"], error["attempts"]) == ("posts", 1)
        assert error["retry_after"] == {"503": 7, "429": 3}.get(fault)


_MENDED = ("never answers", "truncated", "reset in the body", "closed at once", "503")


@pytest.mark.parametrize("fault", [*_MENDED, "garbage instead of HTTP", "429"])
async def test_a_fault_that_happens_once_is_mended_by_another_attempt(fault: str) -> None:
    reply, _ = _FAULTS[fault]
    seen: list[Exchange] = []

    async def at_first(exchange: Exchange) -> None:
        seen.append(exchange)
        await (good if len(seen) > 1 else reply)(exchange)

    in_a_hurry = {"503": saying(b"", "503 Service Unavailable"), "429": _TOO_MANY}
    reply = in_a_hurry.get(fault, reply)
    async with running({"posts": at_first}, {"attempt_timeout": 0.2}) as service:
        assert (await _asked(service))["complete"] is True
        assert len(seen) == 2


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        *(("never answers", 2), ("drips a byte now and then", 2), ("refused", 3), ("500", 3)),
        *(("truncated", 3), ("1 GiB in chunks", 1), ("gzip bomb of 1 GiB", 1), ("404", 1)),
    ],
)
async def test_a_fault_that_stays_is_told_in_time_however_often_it_was_tried(
    fault: str, attempts: int
) -> None:
    reply, reason = _FAULTS[fault]
    async with running({"posts": reply}, {"attempt_timeout": 0.5}) as service:
        error = (await _asked(service))["posts"]["error"]
        assert (error["reason"], error["attempts"]) == (reason, attempts)


@pytest.mark.parametrize(
    ("reply", "dropped"),
    [(with_post(id=SECRET), 1), (with_post(likes=SECRET), 0)],
    ids=["one bad item", "an unknown field"],
)
async def test_a_list_is_told_as_far_as_it_is_good(reply: Reply, dropped: int) -> None:
    async with running({"posts": reply}, _LIMITS) as service:
        told = await _asked(service)
        assert told["complete"] is (dropped == 0)
        assert (told["posts"]["status"], told["posts"]["dropped"]) == ("ok", dropped)
        assert len(told["posts"]["data"]) == 4 - dropped


async def test_a_redirect_is_not_followed() -> None:
    async with Upstream(good) as trap:
        redirect = saying(b"", "302 Found", location=f"{trap.url}/posts?userId=1")
        async with running({"posts": redirect}, _LIMITS) as service:
            told = await _asked(service)
            assert told["posts"]["error"]["reason"] == "upstream_status"
            assert trap.connections == 0


async def test_a_user_that_does_not_exist_is_a_404() -> None:
    async with running(each=_LIMITS) as service:
        answer = await service.get("/v1/users/999/overview", X_Request_ID="one")
        assert answer.status == 404
        assert answer.json["type"] == "/problems/not_found"
        await _holds(service, answer)


async def test_a_malformed_user_leaves_the_lists() -> None:
    malformed = saying(b'{"id": "%b"}' % SECRET.encode())
    async with running({"users": malformed}, _LIMITS) as service:
        told = await _asked(service)
        assert told["user"]["error"]["reason"] == "invalid_payload"
        assert told["posts"]["status"] == told["todos"]["status"] == "ok"


async def _asked(service: Running) -> Any:
    """The overview, after a look at all that holds whatever an upstream does."""
    for mebibytes in (100, 1024):
        faults.zeros(mebibytes)  # made before the memory is looked at
    before = _memory(anew=True)
    # An identity of ours: in one at random, the digits of a port come up now and then.
    answer = await service.overview(X_Request_ID="one", X_Request_Timeout_Ms=_DEADLINE_MS)
    assert _memory() - before < _MEMORY
    assert answer.status == 200
    await _holds(service, answer)
    return answer.json


async def _holds(service: Running, answer: Answered) -> None:
    assert answer.seconds < _DEADLINE + 0.05 + NOISE
    assert SECRET not in answer.raw
    for upstream in service.upstreams.values():
        assert str(upstream.port) not in answer.raw
    assert "127.0.0.1" not in answer.raw
    assert "http://" not in answer.raw
    assert await service.leftovers() == []


def _memory(*, anew: bool = False) -> int:
    """The most that this process ever had, or has had since `anew`, in bytes.

    The upstreams live in it too; they send even their largest bodies from small buffers.
    """
    if anew:
        with contextlib.suppress(OSError):  # where this is not Linux, only a higher peak shows
            Path("/proc/self/clear_refs").write_text("5")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
