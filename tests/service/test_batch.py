"""Batches: attempts in flight, duration, and the effect on other requests."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any
from zlib import crc32

import pytest

from tests.service.replies import delayed, good, never, respond_with
from tests.service.running import NOISE, RunningService, eventually, running_service
from tests.service.stream import NDJSON
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_NAMES = ("users", "posts", "todos")
_FAN_OUT = 10
_USERS = 100
_JSON = "application/json"
_JSON_AND_NDJSON = pytest.mark.parametrize("accept", [_JSON, NDJSON], ids=["json", "ndjson"])


class _CountingReply:
    """Counts the attempts in flight at all upstreams, and holds them until `fan_out` are."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._full = asyncio.Event()
        self._in_flight = 0
        self.max_in_flight = 0

    async def __call__(self, exchange: Exchange) -> None:
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        if self.max_in_flight >= _FAN_OUT:
            self._full.set()
        try:
            await self._full.wait()
            await self._reply(exchange)
        finally:
            self._in_flight -= 1


def _overviews(users: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={1 + n}" for n in range(users))


def _attempts(service: RunningService) -> int:
    return sum(len(upstream.exchanges) for upstream in service.upstreams.values())


async def _items(
    service: RunningService, users: int, accept: str, timeout_ms: int = 9000
) -> list[Any]:
    """The items of a batch of `users`."""
    path, timeout = _overviews(users), str(timeout_ms)
    if accept == _JSON:
        response = await service.get(path, Accept=accept, X_Request_Timeout_Ms=timeout)
        items: list[Any] = response.json["items"]
        assert [item["user_id"] for item in items] == list(range(1, users + 1))
        return items
    async with service.stream(path, accept, X_Request_Timeout_Ms=timeout) as stream:
        items = [item async for chunk in stream for item in chunk.lines]
    assert sorted(item["user_id"] for item in items) == list(range(1, users + 1))
    return items


def _failing_first_attempts() -> Reply:
    """A 500 for the first attempt of a third of the calls: too few to open a breaker."""
    attempted: set[str] = set()

    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(0.002)
        fails = crc32(exchange.target.encode()) % 3 == 0 and exchange.target not in attempted
        attempted.add(exchange.target)
        await (respond_with(b"", "500 Internal Server Error") if fails else good)(exchange)

    return reply


@_JSON_AND_NDJSON
@pytest.mark.parametrize(
    ("make_reply", "retries"),
    [(lambda: delayed(0.002, 0.01), False), (_failing_first_attempts, True)],
    ids=["no retries", "retries"],
)
async def test_a_batch_never_exceeds_its_fan_out(
    make_reply: Callable[[], Reply], retries: bool, accept: str
) -> None:
    counting = _CountingReply(make_reply())
    replies = dict.fromkeys(_NAMES, counting)
    each = {"retry_budget": 1}
    async with running_service(replies, each, fan_out=_FAN_OUT, log_level="error") as service:
        items = await _items(service, _USERS, accept)
        assert all(item["overview"]["complete"] for item in items)
        assert counting.max_in_flight == _FAN_OUT
        assert (_attempts(service) > _USERS * len(_NAMES)) is retries
        assert await service.leaks() == []


async def test_hedges_of_a_batch_count_towards_its_fan_out() -> None:
    """Counted by permits: an upstream learns only later that a losing attempt was cancelled."""
    slow = delayed(0.01, 0.03)
    permits = []

    async def counted(exchange: Exchange) -> None:
        permits.append(sum(one.bulkhead.in_flight for one in service.state.upstreams.values()))
        await slow(exchange)

    each = {"hedge": 0.015, "retry_budget": 1}
    replies = dict.fromkeys(_NAMES, counted)
    async with running_service(replies, each, fan_out=_FAN_OUT) as service:
        await _items(service, _USERS, NDJSON)
        assert max(permits) == _FAN_OUT
        assert _attempts(service) > _USERS * len(_NAMES)


@_JSON_AND_NDJSON
async def test_a_batch_takes_little_longer_than_its_calls_divided_by_the_fan_out(
    accept: str,
) -> None:
    users, call = 50, 0.02
    slow = dict.fromkeys(_NAMES, delayed(call))
    async with running_service(slow, fan_out=_FAN_OUT, log_level="error") as service:
        await _items(service, 1, accept)
        began = perf_counter()
        await _items(service, users, accept)
        ideal = users * len(_NAMES) * call / _FAN_OUT
        assert 0.9 * ideal < perf_counter() - began < 1.15 * ideal + NOISE


async def test_other_requests_are_served_while_a_batch_waits() -> None:
    async def reply(exchange: Exchange) -> None:
        await (good if exchange.headers["x-request-id"] == "other" else never)(exchange)

    each = {"attempt_timeout": 9}
    replies = dict.fromkeys(_NAMES, reply)
    async with running_service(replies, each, request_timeout=9) as service:
        batch = asyncio.create_task(_items(service, _USERS, NDJSON))
        assert await eventually(lambda: _attempts(service) == _FAN_OUT)
        for user in range(1000, 1020):
            other = await service.overview_of(user, X_Request_ID="other")
            assert other.json["complete"] is True
            assert other.seconds < NOISE
        assert not batch.done()
        assert _attempts(service) == _FAN_OUT + 20 * len(_NAMES)
        batch.cancel()
        with suppress(asyncio.CancelledError):
            await batch
        assert await service.leaks() == []


@_JSON_AND_NDJSON
async def test_a_batch_ends_by_its_deadline_when_upstreams_never_answer(accept: str) -> None:
    async def reply(exchange: Exchange) -> None:
        await (good if exchange.target.endswith(("=1", "/1")) else never)(exchange)

    each = {"attempt_timeout": 9}
    replies = dict.fromkeys(_NAMES, reply)
    async with running_service(replies, each, log_level="error") as service:
        began = perf_counter()
        items = await _items(service, 20, accept, timeout_ms=500)
        assert 0.49 < perf_counter() - began < 0.55 + NOISE
        assert [item["user_id"] for item in items if item["status"] == "ok"] == [1]
        assert await service.leaks() == []
