"""How much one batch may ask at a time, how long it takes, and what others feel of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any
from zlib import crc32

import pytest

from tests.service.replies import after, good, never, saying
from tests.service.running import LINES, NOISE, Running, eventually, running
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_NAMES = ("users", "posts", "todos")
_FAN_OUT = 10
_USERS = 100
_JSON = "application/json"
_BOTH = pytest.mark.parametrize("accept", [_JSON, LINES], ids=["JSON", "lines"])


class _Counting:
    """Counts the attempts in flight, of whatever upstream; none ends before there are enough."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._enough = asyncio.Event()
        self._now = 0
        self.most = 0

    async def __call__(self, exchange: Exchange) -> None:
        self._now += 1
        self.most = max(self.most, self._now)
        if self.most >= _FAN_OUT:
            self._enough.set()
        try:
            await self._enough.wait()
            await self._reply(exchange)
        finally:
            self._now -= 1


def _overviews(users: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={1 + n}" for n in range(users))


def _calls(service: Running) -> int:
    return sum(len(upstream.seen) for upstream in service.upstreams.values())


async def _items(service: Running, users: int, accept: str, timeout_ms: int = 9000) -> list[Any]:
    """What the batch says of each user."""
    path, patience = _overviews(users), str(timeout_ms)
    if accept == _JSON:
        answer = await service.get(path, Accept=accept, X_Request_Timeout_Ms=patience)
        items: list[Any] = answer.json["items"]
        assert [item["user_id"] for item in items] == list(range(1, users + 1))
        return items
    async with service.stream(path, accept, X_Request_Timeout_Ms=patience) as stream:
        items = [item async for piece in stream for item in piece.lines]
    assert sorted(item["user_id"] for item in items) == list(range(1, users + 1))
    return items


def _fails_at_first() -> Reply:
    """A third of the calls, which is not enough to open a breaker."""
    asked: set[str] = set()

    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(0.002)
        fails = crc32(exchange.target.encode()) % 3 == 0 and exchange.target not in asked
        asked.add(exchange.target)
        await (saying(b"", "500 Internal Server Error") if fails else good)(exchange)

    return reply


@_BOTH
@pytest.mark.parametrize(
    ("make", "retries"),
    [(lambda: after(0.002, 0.01), False), (_fails_at_first, True)],
    ids=["all well", "retries"],
)
async def test_a_batch_never_has_more_in_flight_than_its_fan_out(
    make: Callable[[], Reply], retries: bool, accept: str
) -> None:
    counting = _Counting(make())
    replies = dict.fromkeys(_NAMES, counting)
    each = {"retry_budget": 1}
    async with running(replies, each, fan_out=_FAN_OUT, log_level="error") as service:
        items = await _items(service, _USERS, accept)
        assert all(item["overview"]["complete"] for item in items)
        assert counting.most == _FAN_OUT
        assert (_calls(service) > _USERS * len(_NAMES)) is retries
        assert await service.leftovers() == []


async def test_hedges_are_no_way_around_the_fan_out() -> None:
    """By the permits: an upstream sees only later that an attempt has lost and was cancelled."""
    slow = after(0.01, 0.03)
    taken = []

    async def counted(exchange: Exchange) -> None:
        taken.append(sum(one.bulkhead.in_flight for one in service.service.upstreams.values()))
        await slow(exchange)

    each = {"hedge": 0.015, "retry_budget": 1}
    async with running(dict.fromkeys(_NAMES, counted), each, fan_out=_FAN_OUT) as service:
        await _items(service, _USERS, LINES)
        assert max(taken) == _FAN_OUT
        assert _calls(service) > _USERS * len(_NAMES)


@_BOTH
async def test_a_batch_takes_little_longer_than_its_calls_take_in_turns(accept: str) -> None:
    users, call = 50, 0.02
    slow = dict.fromkeys(_NAMES, after(call))
    async with running(slow, fan_out=_FAN_OUT, log_level="error") as service:
        await _items(service, 1, accept)
        began = perf_counter()
        await _items(service, users, accept)
        least = users * len(_NAMES) * call / _FAN_OUT
        assert 0.9 * least < perf_counter() - began < 1.15 * least + NOISE


async def test_others_are_served_while_a_batch_waits() -> None:
    async def held(exchange: Exchange) -> None:
        await (good if exchange.headers["x-request-id"] == "other" else never)(exchange)

    each = {"attempt_timeout": 9}
    async with running(dict.fromkeys(_NAMES, held), each, request_timeout=9) as service:
        batch = asyncio.create_task(_items(service, _USERS, LINES))
        assert await eventually(lambda: _calls(service) == _FAN_OUT)
        for user in range(1000, 1020):
            other = await service.overview_of(user, X_Request_ID="other")
            assert other.json["complete"] is True
            assert other.seconds < NOISE
        assert not batch.done()
        assert _calls(service) == _FAN_OUT + 20 * len(_NAMES)
        batch.cancel()
        with suppress(asyncio.CancelledError):
            await batch
        assert await service.leftovers() == []


@_BOTH
async def test_a_batch_is_out_by_its_deadline_whatever_the_upstreams_do(accept: str) -> None:
    async def held(exchange: Exchange) -> None:
        await (good if exchange.target.endswith(("=1", "/1")) else never)(exchange)

    each = {"attempt_timeout": 9}
    async with running(dict.fromkeys(_NAMES, held), each, log_level="error") as service:
        began = perf_counter()
        items = await _items(service, 20, accept, timeout_ms=500)
        assert 0.49 < perf_counter() - began < 0.55 + NOISE
        assert [item["user_id"] for item in items if item["status"] == "ok"] == [1]
        assert await service.leftovers() == []
