"""How much one request, and all of them together, may ask of an upstream."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tests.service.faults import drips
from tests.service.replies import after, never
from tests.service.running import NOISE, running
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_CLIENTS = 300
_CONCURRENCY = 20
_FAN_OUT = 2


def _most_at_once(exchanges: Iterable[Exchange]) -> int:
    # An end goes before a beginning at the same instant: its permit was free for that one.
    ends = [(one.ended, -1) for one in exchanges if one.ended]
    steps = sorted([*ends, *((one.began, 1) for one in exchanges)])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


async def test_a_crowd_never_goes_beyond_concurrency_nor_a_request_beyond_fan_out() -> None:
    crowded = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await crowded.wait()
        await after(0.005)(exchange)

    replies = dict.fromkeys(("users", "posts", "todos"), held)
    limits = {"concurrency": _CONCURRENCY, "attempt_timeout": 10}
    async with running(replies, limits, request_timeout=10, fan_out=_FAN_OUT) as service:
        asking = [asyncio.create_task(service.overview_of(1 + n)) for n in range(_CLIENTS)]
        for _ in range(_CONCURRENCY):
            await asyncio.wait_for(service.upstreams["users"].arrivals.get(), 5)
        crowded.set()
        answers = await asyncio.gather(*asking)
        assert all(answer.json["complete"] for answer in answers)
        requests: dict[str, list[Exchange]] = defaultdict(list)
        for upstream in service.upstreams.values():
            assert len(upstream.seen) == _CLIENTS
            assert upstream.most_in_flight <= _CONCURRENCY
            assert upstream.connections <= _CONCURRENCY
            for exchange in upstream.seen:
                requests[exchange.headers["x-request-id"]].append(exchange)
        assert len(requests) == _CLIENTS
        assert max(map(_most_at_once, requests.values())) == _FAN_OUT
        assert await service.leftovers() == []


async def test_who_gets_no_permit_before_the_deadline_is_told_of_overload() -> None:
    async with running({"posts": never}, {"concurrency": 1}) as service:
        holder = asyncio.create_task(service.overview("?include=posts"))
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        told = await service.overview_of(2, X_Request_Timeout_Ms="100")
        assert 0.1 <= told.seconds < 0.15 + NOISE
        assert told.status == 200
        assert told.json["user"]["status"] == told.json["todos"]["status"] == "ok"
        error = told.json["posts"]["error"]
        assert (error["reason"], error["status"], error["attempts"]) == ("overloaded", 503, 0)
        alone = await service.overview_of(3, "?include=posts", X_Request_Timeout_Ms="50")
        assert (alone.status, alone.json["type"]) == (503, "/problems/overloaded")
        assert int(alone.headers["Retry-After"]) >= 1
        assert len(service.upstreams["posts"].seen) == 1
        holder.cancel()
        assert await service.leftovers() == []


async def test_an_attempt_that_drips_ends_with_its_own_time_and_not_with_the_deadline() -> None:
    async with running({"posts": drips}, {"attempt_timeout": 0.2, "retries": 0}) as service:
        answer = await service.overview()
        assert answer.json["posts"]["error"]["reason"] == "timeout"
        assert 0.2 <= answer.seconds < 0.25 + NOISE
        assert await service.leftovers() == []


async def test_a_busy_upstream_does_not_hold_up_the_others() -> None:
    async with running({"posts": never}, {"concurrency": 1, "attempt_timeout": 5}) as service:
        stuck = [
            asyncio.create_task(service.overview_of(1 + n, "?include=posts")) for n in range(20)
        ]
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        answer = await service.overview("?include=user,todos")
        assert answer.json["complete"] is True
        assert answer.seconds < NOISE
        for task in stuck:
            task.cancel()
        assert await service.leftovers() == []
