"""Limits on attempts in flight: `concurrency` an upstream, `fan_out` a client request."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import pytest

from tests.service.replies import delayed, never
from tests.service.running import NOISE, running_service
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_CLIENTS = 300
_CONCURRENCY = 20
_FAN_OUT = 2


def _max_in_flight(exchanges: Iterable[Exchange]) -> int:
    # At equal times an end sorts before a beginning: its permit was free for that one.
    ends = [(one.ended, -1) for one in exchanges if one.ended]
    steps = sorted([*ends, *((one.began, 1) for one in exchanges)])
    maximum = in_flight = 0
    for _, step in steps:
        in_flight += step
        maximum = max(maximum, in_flight)
    return maximum


async def test_many_clients_never_exceed_concurrency_nor_a_request_its_fan_out() -> None:
    release = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await release.wait()
        await delayed(0.005)(exchange)

    replies = dict.fromkeys(("users", "posts", "todos"), held)
    limits = {"concurrency": _CONCURRENCY, "attempt_timeout": 10}
    async with running_service(replies, limits, request_timeout=10, fan_out=_FAN_OUT) as service:
        requests = [asyncio.create_task(service.overview_of(1 + n)) for n in range(_CLIENTS)]
        for _ in range(_CONCURRENCY):
            await asyncio.wait_for(service.upstreams["users"].arrivals.get(), 5)
        release.set()
        responses = await asyncio.gather(*requests)
        assert all(response.json["complete"] for response in responses)
        by_request: dict[str, list[Exchange]] = defaultdict(list)
        for upstream in service.upstreams.values():
            assert len(upstream.exchanges) == _CLIENTS
            assert upstream.max_in_flight <= _CONCURRENCY
            assert upstream.connections <= _CONCURRENCY
            for exchange in upstream.exchanges:
                by_request[exchange.headers["x-request-id"]].append(exchange)
        assert len(by_request) == _CLIENTS
        assert max(map(_max_in_flight, by_request.values())) == _FAN_OUT
        assert await service.leaks() == []


async def test_a_call_without_a_permit_before_its_deadline_is_overloaded() -> None:
    async with running_service({"posts": never}, {"concurrency": 1}) as service:
        holder = asyncio.create_task(service.overview("?include=posts"))
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        partial = await service.overview_of(2, X_Request_Timeout_Ms="100")
        assert 0.1 <= partial.seconds < 0.15 + NOISE
        assert partial.status == 200
        assert partial.json["user"]["status"] == partial.json["todos"]["status"] == "ok"
        error = partial.json["posts"]["error"]
        assert (error["reason"], error["status"], error["attempts"]) == ("overloaded", 503, 0)
        alone = await service.overview_of(3, "?include=posts", X_Request_Timeout_Ms="50")
        assert (alone.status, alone.json["type"]) == (503, "/problems/overloaded")
        assert int(alone.headers["Retry-After"]) >= 1
        assert len(service.upstreams["posts"].exchanges) == 1
        holder.cancel()
        assert await service.leaks() == []


async def test_a_full_bulkhead_does_not_delay_calls_to_other_upstreams() -> None:
    each = {"concurrency": 1, "attempt_timeout": 5}
    async with running_service({"posts": never}, each) as service:
        waiting = [
            asyncio.create_task(service.overview_of(1 + n, "?include=posts")) for n in range(20)
        ]
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        response = await service.overview("?include=user,todos")
        assert response.json["complete"] is True
        assert response.seconds < NOISE
        for task in waiting:
            task.cancel()
        assert await service.leaks() == []
