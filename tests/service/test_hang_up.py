"""Nobody works for a client that has left, nor for an answer that is already decided."""

import asyncio
from time import perf_counter

import pytest

from app.errors import Reason
from tests.service.replies import good, never, saying
from tests.service.running import NOISE, Running, running
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_PROMPT = 0.1
_PATIENT = {"attempt_timeout": 5.0, "retries": 0}


async def _arrived(service: Running, name: str) -> Exchange:
    return await asyncio.wait_for(service.upstreams[name].arrivals.get(), 2)


async def _left(exchange: Exchange) -> float:
    """When the service closed the connection of an attempt that was not answered yet."""
    return await asyncio.wait_for(exchange.gone, 2)


async def test_a_client_that_hangs_up_takes_its_attempts_along() -> None:
    silent = {"users": never, "posts": never, "todos": never}
    async with running(silent, _PATIENT, request_timeout=5) as service:
        asking = asyncio.create_task(service.overview())
        attempts = [await _arrived(service, name) for name in silent]
        hung_up = perf_counter()
        asking.cancel()
        for attempt in attempts:
            assert await _left(attempt) - hung_up < _PROMPT + NOISE
        assert await service.leftovers() == []


async def test_a_client_that_hangs_up_while_it_queues_leaves_the_queue() -> None:
    async with running({"posts": never}, {"concurrency": 1, **_PATIENT}) as service:
        first = asyncio.create_task(service.overview("?include=posts"))
        holder = await _arrived(service, "posts")
        second = asyncio.create_task(service.overview_of(2))
        await _arrived(service, "todos")  # so its posts are in the queue by now
        second.cancel()
        first.cancel()
        await _left(holder)
        assert await service.leftovers() == []
        assert len(service.upstreams["posts"].seen) == 1


@pytest.mark.parametrize("whose", [1, 2], ids=["who asks the same", "who asks something else"])
async def test_other_clients_go_on_when_one_hangs_up(whose: int) -> None:
    decide = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await decide.wait()
        await good(exchange)

    async with running({"posts": held}, _PATIENT, request_timeout=5) as service:
        leaving = asyncio.create_task(service.overview())
        attempt = await _arrived(service, "posts")
        staying = asyncio.create_task(service.overview_of(whose, "?include=posts"))
        await asyncio.sleep(0.1)  # nobody announces a second passenger
        leaving.cancel()
        if whose == 1:
            await asyncio.sleep(0.1)
            assert not attempt.gone.done()
        else:
            await _left(attempt)
        decide.set()
        assert (await staying).json["complete"] is True
        assert len(service.upstreams["posts"].seen) == whose
        assert await service.leftovers() == []


@pytest.mark.parametrize(
    ("reply", "query", "status", "reason"),
    [
        (saying(b"", "500 Internal Server Error"), "?require=user", 502, "upstream_status"),
        (saying(b"[]"), "?require=posts,user", 502, "invalid_payload"),
        (saying(b"{}", "404 Not Found"), "", 404, "not_found"),
    ],
    ids=["a required section fails", "one of two required fails", "there is no such user"],
)
async def test_siblings_are_cancelled_as_soon_as_the_answer_is_decided(
    reply: Reply, query: str, status: int, reason: Reason
) -> None:
    silent = {"posts": never, "todos": never}
    decide = asyncio.Event()

    async def decisive(exchange: Exchange) -> None:
        await decide.wait()
        await reply(exchange)

    async with running({"users": decisive, **silent}, _PATIENT, request_timeout=5) as service:
        asking = asyncio.create_task(service.overview(query))
        siblings = [await _arrived(service, name) for name in silent]
        decide.set()
        decided = perf_counter()
        answer = await asking
        assert perf_counter() - decided < _PROMPT + NOISE
        assert answer.status == status
        assert answer.json["type"] == f"/problems/{reason}"
        for sibling in siblings:
            assert await _left(sibling) - decided < _PROMPT + NOISE
        assert await service.leftovers() == []
