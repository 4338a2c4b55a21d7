"""Equal requests at once: one upstream call, as long as anybody waits for it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest

from tests.service.replies import good, posts, saying
from tests.service.running import NOISE, Answered, Running, eventually, running
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_CROWD = 100
_SECTIONS = 3
_PROMPT = 0.1


@asynccontextmanager
async def _crowd() -> AsyncIterator[tuple[Running, list[asyncio.Task[Answered]], asyncio.Event]]:
    """Equal requests that all wait, by now, for upstreams that answer when the event is set."""
    let_go = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await let_go.wait()
        await good(exchange)

    replies = dict.fromkeys(("users", "posts", "todos"), held)
    async with running(replies, {"attempt_timeout": 9.0}, request_timeout=9.0) as service:
        asking = [asyncio.create_task(service.overview()) for _ in range(_CROWD)]
        assert await eventually(lambda: _waiting() == _CROWD * _SECTIONS)
        yield service, asking, let_go
        assert await service.leftovers() == []


def _waiting() -> int:
    """Sections that somebody waits for: service and clients are in this one process."""
    names = (getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks())
    return sum(name == "_outcome" for name in names)


async def test_equal_requests_share_one_call_and_the_last_one_that_stays_gets_its_answer() -> None:
    async with _crowd() as (service, asking, let_go):
        staying = asking.pop(_CROWD // 2)  # not the one that began it
        for leaving in asking:
            leaving.cancel()
        assert await eventually(lambda: _waiting() == _SECTIONS)
        let_go.set()
        answer = await staying
        assert answer.json["complete"] is True
        assert answer.headers["Cache-Status"].count("collapsed") == _SECTIONS
        assert [len(one.seen) for one in service.upstreams.values()] == [1] * _SECTIONS


async def test_equal_requests_that_all_stay_get_the_same_answer_of_one_call() -> None:
    async with _crowd() as (service, asking, let_go):
        let_go.set()
        answers = await asyncio.gather(*asking)
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].json["complete"] is True
        assert [len(one.seen) for one in service.upstreams.values()] == [1] * _SECTIONS


async def test_the_upstream_is_left_alone_when_the_last_one_hangs_up() -> None:
    async with _crowd() as (service, asking, _):
        exchanges = [one.seen[0] for one in service.upstreams.values()]
        left = perf_counter()
        for leaving in asking:
            leaving.cancel()
        for exchange in exchanges:
            assert await asyncio.wait_for(exchange.gone, 2) - left < _PROMPT + NOISE


async def test_nobody_is_answered_by_what_another_ones_token_was_told() -> None:
    let_go = asyncio.Event()

    async def personal(exchange: Exchange) -> None:
        await let_go.wait()
        titled = {**posts(1)[0], "title": exchange.headers["authorization"]}
        await saying(json.dumps([titled]).encode())(exchange)

    async with running({"posts": personal}, forward_headers="authorization") as service:
        asking = {
            token: [
                asyncio.create_task(service.overview("?include=posts", Authorization=token))
                for _ in range(5)
            ]
            for token in ("Bearer one", "Bearer two")
        }
        assert await eventually(lambda: _waiting() == 10)
        let_go.set()
        for token, tasks in asking.items():
            for answer in await asyncio.gather(*tasks):
                assert answer.json["posts"]["data"][0]["title"] == token
        assert len(service.upstreams["posts"].seen) == len(asking)
        assert await service.leftovers() == []
