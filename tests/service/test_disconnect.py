"""Attempts are cancelled when nobody needs them: the client disconnected, or the answer is decided.

The same for streams is in `test_stream_disconnect.py`.
"""

import asyncio
from time import perf_counter

import pytest

from app.errors import Reason
from tests.service.replies import good, never, respond_with
from tests.service.running import NOISE, RunningService, running_service
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_CANCELLED_WITHIN = 0.1
_NO_TIMEOUT = {"attempt_timeout": 5.0, "retries": 0}


async def _arrival(service: RunningService, name: str) -> Exchange:
    return await asyncio.wait_for(service.upstreams[name].arrivals.get(), 2)


async def _disconnected(exchange: Exchange) -> float:
    """When the service closed the connection of an attempt that had no response yet."""
    return await asyncio.wait_for(exchange.disconnected, 2)


async def test_a_disconnect_cancels_the_attempts_of_the_client() -> None:
    silent = {"users": never, "posts": never, "todos": never}
    async with running_service(silent, _NO_TIMEOUT, request_timeout=5) as service:
        client = asyncio.create_task(service.overview())
        attempts = [await _arrival(service, name) for name in silent]
        disconnected_at = perf_counter()
        client.cancel()
        for attempt in attempts:
            assert await _disconnected(attempt) - disconnected_at < _CANCELLED_WITHIN + NOISE
        assert await service.leaks() == []


async def test_a_disconnect_removes_a_queued_call_from_the_bulkhead_queue() -> None:
    async with running_service({"posts": never}, {"concurrency": 1, **_NO_TIMEOUT}) as service:
        first = asyncio.create_task(service.overview("?include=posts"))
        holder = await _arrival(service, "posts")
        second = asyncio.create_task(service.overview_of(2))
        await _arrival(service, "todos")  # so its call for posts is in the queue by now
        second.cancel()
        first.cancel()
        await _disconnected(holder)
        assert await service.leaks() == []
        assert len(service.upstreams["posts"].exchanges) == 1


@pytest.mark.parametrize("other_user", [1, 2], ids=["coalesced", "not coalesced"])
async def test_a_disconnect_does_not_affect_other_clients(other_user: int) -> None:
    release = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await release.wait()
        await good(exchange)

    async with running_service({"posts": held}, _NO_TIMEOUT, request_timeout=5) as service:
        leaving = asyncio.create_task(service.overview())
        attempt = await _arrival(service, "posts")
        staying = asyncio.create_task(service.overview_of(other_user, "?include=posts"))
        await asyncio.sleep(0.1)  # no event says that a second waiter has joined
        leaving.cancel()
        if other_user == 1:
            await asyncio.sleep(0.1)
            assert not attempt.disconnected.done()
        else:
            await _disconnected(attempt)
        release.set()
        assert (await staying).json["complete"] is True
        assert len(service.upstreams["posts"].exchanges) == other_user
        assert await service.leaks() == []


@pytest.mark.parametrize(
    ("reply", "query", "status", "reason"),
    [
        (respond_with(b"", "500 Internal Server Error"), "?require=user", 502, "upstream_status"),
        (respond_with(b"[]"), "?require=posts,user", 502, "invalid_payload"),
        (respond_with(b"{}", "404 Not Found"), "", 404, "not_found"),
    ],
    ids=["a required section fails", "one of two required fails", "there is no such user"],
)
async def test_the_other_attempts_are_cancelled_as_soon_as_the_answer_is_decided(
    reply: Reply, query: str, status: int, reason: Reason
) -> None:
    silent = {"posts": never, "todos": never}
    release = asyncio.Event()

    async def decisive(exchange: Exchange) -> None:
        await release.wait()
        await reply(exchange)

    replies = {"users": decisive, **silent}
    async with running_service(replies, _NO_TIMEOUT, request_timeout=5) as service:
        client = asyncio.create_task(service.overview(query))
        others = [await _arrival(service, name) for name in silent]
        release.set()
        decided_at = perf_counter()
        response = await client
        assert perf_counter() - decided_at < _CANCELLED_WITHIN + NOISE
        assert response.status == status
        assert response.json["type"] == f"/problems/{reason}"
        for attempt in others:
            assert await _disconnected(attempt) - decided_at < _CANCELLED_WITHIN + NOISE
        assert await service.leaks() == []
