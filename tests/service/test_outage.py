"""An upstream outage: retries are bounded, the breaker opens and recovers, stale data is served."""

import asyncio
from itertools import count
from statistics import median
from typing import Any

import pytest

from tests.service.faults import closed_at_once
from tests.service.replies import good, never, respond_with
from tests.service.running import NOISE, Response, RunningService, eventually, running_service
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_OUTAGES = {
    "500": respond_with(b"", "500 Internal Server Error"),
    "closed": closed_at_once,
    "hanging": never,
}
_REQUESTS = 100
_REFUSED_WITHIN = 0.01
_users = count(1000)


class _Switch:
    """A reply that can be changed."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def __call__(self, exchange: Exchange) -> None:
        await self.reply(exchange)


async def _get_posts(service: RunningService, users: int = 1) -> list[Response]:
    """Concurrent requests for the posts of different users."""
    return await asyncio.gather(
        *(service.get(f"/v1/users/{next(_users)}/overview?include=posts") for _ in range(users))
    )


def _section(response: Response) -> Any:
    body = response.json
    return body.get("sections", body)["posts"]


def _reasons(responses: list[Response]) -> list[str]:
    return [_section(response)["error"]["reason"] for response in responses]


@pytest.mark.parametrize("outage", _OUTAGES)
async def test_the_breaker_opens_so_that_few_retries_are_sent_and_calls_fail_at_once(
    outage: str,
) -> None:
    async with running_service({"posts": _OUTAGES[outage]}, {"attempt_timeout": 0.1}) as service:
        attempts = service.upstreams["posts"].exchanges
        await _get_posts(service, 2 * _REQUESTS)
        assert len(attempts) <= 1.25 * 2 * _REQUESTS
        before = len(attempts)
        responses = [(await _get_posts(service))[0] for _ in range(50)]
        assert len(attempts) - before <= 2  # one probe a second
        refused = [one for one in responses if _section(one)["error"]["attempts"] == 0]
        assert len(refused) >= 48
        assert set(_reasons(refused)) == {"circuit_open"}
        assert all(one.status == 503 and int(one.headers["Retry-After"]) >= 1 for one in refused)
        assert median(one.seconds for one in refused) < _REFUSED_WITHIN + NOISE
        assert await service.leaks() == []


async def test_a_half_open_breaker_sends_one_probe_however_many_requests_come() -> None:
    release = asyncio.Event()

    async def slow_recovery(exchange: Exchange) -> None:
        await release.wait()
        await good(exchange)

    posts = _Switch(_OUTAGES["500"])
    each = {"retries": 0, "attempt_timeout": 5.0}
    async with running_service({"posts": posts}, each) as service:
        await _get_posts(service, 20)
        (refused,) = await _get_posts(service)
        error = _section(refused)["error"]
        assert error["reason"] == "circuit_open"
        posts.reply = slow_recovery
        attempts = service.upstreams["posts"].exchanges
        before = len(attempts)
        await asyncio.sleep(error["retry_after"] + 0.01)
        requests = [asyncio.create_task(_get_posts(service)) for _ in range(_REQUESTS)]
        assert await eventually(lambda: sum(one.done() for one in requests) == _REQUESTS - 1)
        assert len(attempts) - before == 1
        all_refused = [response for one in requests if one.done() for response in one.result()]
        assert set(_reasons(all_refused)) == {"circuit_open"}
        release.set()
        (probe,) = [one for one in requests if not one.done()]
        assert _section((await probe)[0])["status"] == "ok"
        assert len(attempts) - before == 1
        recovered = await _get_posts(service, 10)
        assert all(_section(response)["status"] == "ok" for response in recovered)
        assert await service.leaks() == []


@pytest.mark.parametrize("outage", _OUTAGES)
async def test_stale_if_error_serves_stale_data_until_its_window_ends_and_then_fails(
    outage: str,
) -> None:
    posts = _Switch(good)
    each = {"ttl": 0.05, "stale_if_error": 1.2, "attempt_timeout": 0.1, "retries": 0}
    async with running_service({"posts": posts}, each) as service:
        first = (await service.overview()).json["posts"]
        assert first["stale"] is False
        posts.reply = _OUTAGES[outage]
        await asyncio.sleep(0.1)
        stale = await service.overview()
        assert stale.json["posts"] == {**first, "stale": True}
        assert stale.json["complete"] is False
        assert stale.headers["Cache-Control"] == "no-store"
        assert "detail=stale-if-error" in stale.headers["Cache-Status"]
        await asyncio.sleep(1.25)
        failed = (await service.overview()).json["posts"]
        assert failed["status"] == "failed"
        posts.reply = good
        fresh = (await service.overview()).json["posts"]
        assert (fresh["status"], fresh["stale"]) == ("ok", False)
        assert fresh["as_of"] > first["as_of"]
        assert await service.leaks() == []
