"""A client that asks for much and does not read keeps the service waiting, and nobody else."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.call import Data
from app.server import http_protocol
from tests.service.replies import saying
from tests.service.running import LINES, NOISE, Running, Stream, running
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_FAN_OUT = 10
_USERS = 100
_LARGE = b"x" * 300_000  # all together, far more than what a kernel takes upon itself
_OVERVIEWS = "/v1/overviews?" + "&".join(f"user_id={1 + n}" for n in range(_USERS))


async def _large(exchange: Exchange) -> None:
    user = int(exchange.target.partition("?userId=")[2])
    await saying(b'[{"userId":%d,"id":1,"title":"","body":"%b"}]' % (user, _LARGE))(exchange)


@asynccontextmanager
async def _unread(timeout_ms: int) -> AsyncIterator[tuple[Running, Stream, int]]:
    """A service that waits for a client to read, the client, and how many calls were made."""
    async with (
        running({"posts": _large}, fan_out=_FAN_OUT, log_level="error") as service,
        service.stream(
            _OVERVIEWS, LINES, window=4096, X_Request_Timeout_Ms=str(timeout_ms)
        ) as stream,
    ):
        calls = -1
        while calls < _calls(service):
            calls = _calls(service)
            await asyncio.sleep(0.3)  # nobody announces what does not happen
        yield service, stream, calls


def _calls(service: Running) -> int:
    return sum(len(upstream.seen) for upstream in service.upstreams.values())


def _held() -> int:
    """Answers of upstreams in memory."""
    gc.collect()
    return sum(isinstance(one, Data) for one in gc.get_objects())


async def _rest(stream: Stream) -> list[Any]:
    return [item async for piece in stream for item in piece.lines]


async def test_not_much_more_is_asked_for_than_the_client_reads() -> None:
    before = _held()
    async with _unread(9000) as (_, _, calls):
        assert calls < _USERS * 3
        assert _held() - before <= 2 * _FAN_OUT


async def test_nothing_is_held_meanwhile_that_others_need() -> None:
    async with _unread(9000) as (service, _, calls):
        assert [one.bulkhead.in_flight for one in service.service.upstreams.values()] == [0, 0, 0]
        for user in range(1000, 1010):
            answer = await service.overview_of(user)
            assert answer.json["complete"] is True
            assert answer.seconds < NOISE
        assert _calls(service) == calls + 10 * 3


async def test_who_reads_again_in_time_gets_all() -> None:
    async with _unread(9000) as (service, stream, _):
        items = await _rest(stream)
        assert sorted(item["user_id"] for item in items) == list(range(1, _USERS + 1))
        assert all(item["overview"]["complete"] for item in items)
        assert await service.leftovers() == []


async def test_who_reads_again_too_late_is_told_so() -> None:
    async with _unread(1500) as (service, stream, calls):
        await asyncio.sleep(stream.asked + 1.6 - perf_counter())
        items = await _rest(stream)
        assert sorted(item["user_id"] for item in items) == list(range(1, _USERS + 1))
        failed = [item["error"]["status"] for item in items if item["status"] == "failed"]
        assert len(failed) == _USERS - len(service.upstreams["users"].seen)
        assert set(failed) <= {503, 504}
        assert _calls(service) == calls
        assert await service.leftovers() == []


async def test_who_never_reads_again_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.6)
    before = _held()
    async with _unread(9000) as (service, stream, _):
        assert await service.leftovers() == []
        assert _held() == before
        with pytest.raises(ConnectionError):
            await _rest(stream)


async def test_half_a_goodbye_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A FIN that we do not see because we wait to write."""
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.6)
    async with _unread(9000) as (service, stream, _):
        stream.finish()
        assert await service.leftovers() == []


async def test_who_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.8)
    async with _unread(9000) as (_, stream, _):
        began = perf_counter()
        pieces = 0
        async for piece in stream:
            pieces += len(piece.lines)
            await asyncio.sleep(0.02)
        assert pieces == _USERS
        assert perf_counter() - began > 1.6


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_nor_is_a_whole_answer_kept_for_ever(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.6)
    async with _whole(connection) as (reader, length):
        await asyncio.sleep(1.5)
        body = await asyncio.wait_for(reader.read(), 5)
        assert 0 < len(body) < length


async def test_who_reads_a_whole_answer_slowly_gets_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.6)
    async with _whole("close") as (reader, length):
        taken = 0
        while piece := await asyncio.wait_for(reader.read(300_000), 5):
            taken += len(piece)
            await asyncio.sleep(len(piece) / 15_000_000)  # two seconds in all
        assert taken == length


@asynccontextmanager
async def _whole(connection: str) -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """The body of a batch in JSON, still to be read, and its length."""
    async with running({"posts": _large}, log_level="error") as service:
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        lines = [f"GET {_OVERVIEWS} HTTP/1.1", "Host: service", f"Connection: {connection}"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        yield reader, int(length[1])
        writer.close()
