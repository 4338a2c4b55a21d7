"""Coalescing: equal requests in flight share one upstream call, as long as one of them waits."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest

from tests.service.replies import good, posts, respond_with
from tests.service.running import NOISE, Response, RunningService, eventually, running_service
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_REQUESTS = 100
_SECTIONS = 3
_CANCELLED_WITHIN = 0.1


@asynccontextmanager
async def _equal_requests() -> AsyncIterator[
    tuple[RunningService, list[asyncio.Task[Response]], asyncio.Event]
]:
    """Equal requests that all wait for upstreams, which respond once the event is set."""
    release = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await release.wait()
        await good(exchange)

    replies = dict.fromkeys(("users", "posts", "todos"), held)
    async with running_service(replies, {"attempt_timeout": 9.0}, request_timeout=9.0) as service:
        requests = [asyncio.create_task(service.overview()) for _ in range(_REQUESTS)]
        assert await eventually(lambda: _sections_in_flight() == _REQUESTS * _SECTIONS)
        yield service, requests, release
        assert await service.leaks() == []


def _sections_in_flight() -> int:
    """By the service's tasks, which run in this process; `_outcome` is the scheduler's task."""
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return sum(name == "_outcome" for name in names)


async def test_coalesced_requests_disconnect_one_by_one_and_the_last_one_gets_the_answer() -> None:
    async with _equal_requests() as (service, requests, release):
        staying = requests.pop(_REQUESTS // 2)  # not the leader of the flight
        for leaving in requests:
            leaving.cancel()
        assert await eventually(lambda: _sections_in_flight() == _SECTIONS)
        release.set()
        response = await staying
        assert response.json["complete"] is True
        assert response.headers["Cache-Status"].count("collapsed") == _SECTIONS
        assert [len(one.exchanges) for one in service.upstreams.values()] == [1] * _SECTIONS


async def test_coalesced_requests_get_the_same_answer_from_one_call_an_upstream() -> None:
    async with _equal_requests() as (service, requests, release):
        release.set()
        responses = await asyncio.gather(*requests)
        assert len({response.text for response in responses}) == 1
        assert responses[0].json["complete"] is True
        assert [len(one.exchanges) for one in service.upstreams.values()] == [1] * _SECTIONS


async def test_a_coalesced_call_is_cancelled_when_its_last_client_disconnects() -> None:
    async with _equal_requests() as (service, requests, _):
        exchanges = [one.exchanges[0] for one in service.upstreams.values()]
        disconnected_at = perf_counter()
        for leaving in requests:
            leaving.cancel()
        for exchange in exchanges:
            cancelled_at = await asyncio.wait_for(exchange.disconnected, 2)
            assert cancelled_at - disconnected_at < _CANCELLED_WITHIN + NOISE


async def test_requests_with_different_credentials_are_not_coalesced() -> None:
    release = asyncio.Event()

    async def personal(exchange: Exchange) -> None:
        await release.wait()
        post = {**posts(1)[0], "title": exchange.headers["authorization"]}
        await respond_with(json.dumps([post]).encode())(exchange)

    async with running_service({"posts": personal}, forward_headers="authorization") as service:
        requests = {
            token: [
                asyncio.create_task(service.overview("?include=posts", Authorization=token))
                for _ in range(5)
            ]
            for token in ("Bearer one", "Bearer two")
        }
        assert await eventually(lambda: _sections_in_flight() == 10)
        release.set()
        for token, tasks in requests.items():
            for response in await asyncio.gather(*tasks):
                assert response.json["posts"]["data"][0]["title"] == token
        assert len(service.upstreams["posts"].exchanges) == len(requests)
        assert await service.leaks() == []
