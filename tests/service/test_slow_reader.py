"""A client that does not read: backpressure on its own batch, no effect on others, idle timeout."""

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
from app.server import idle_timeout
from tests.service.replies import respond_with
from tests.service.running import NOISE, RunningService, running_service
from tests.service.stream import NDJSON, Stream
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio

_FAN_OUT = 10
_USERS = 100
_LARGE = b"x" * 300_000  # in sum far more than the kernel's socket buffers take
_OVERVIEWS = "/v1/overviews?" + "&".join(f"user_id={1 + n}" for n in range(_USERS))


async def _large_post(exchange: Exchange) -> None:
    user = int(exchange.target.partition("?userId=")[2])
    post = b'[{"userId":%d,"id":1,"title":"","body":"%b"}]' % (user, _LARGE)
    await respond_with(post)(exchange)


@asynccontextmanager
async def _unread_batch(timeout_ms: int) -> AsyncIterator[tuple[RunningService, Stream, int]]:
    """A service that waits for a client to read, the client's stream, and the attempts so far."""
    async with (
        running_service({"posts": _large_post}, fan_out=_FAN_OUT, log_level="error") as service,
        service.stream(
            _OVERVIEWS, NDJSON, window=4096, X_Request_Timeout_Ms=str(timeout_ms)
        ) as stream,
    ):
        attempts = -1
        while attempts < _attempts(service):
            attempts = _attempts(service)
            await asyncio.sleep(0.3)  # no event says that no more attempts follow
        yield service, stream, attempts


def _attempts(service: RunningService) -> int:
    return sum(len(upstream.exchanges) for upstream in service.upstreams.values())


def _data_in_memory() -> int:
    """How many upstream answers are alive."""
    gc.collect()
    return sum(isinstance(one, Data) for one in gc.get_objects())


async def _read_items(stream: Stream) -> list[Any]:
    return [item async for chunk in stream for item in chunk.lines]


async def test_backpressure_keeps_upstream_calls_near_what_the_slow_reader_has_read() -> None:
    before = _data_in_memory()
    async with _unread_batch(9000) as (_, _, attempts):
        assert attempts < _USERS * 3
        assert _data_in_memory() - before <= 2 * _FAN_OUT


async def test_a_slow_reader_holds_no_permit_and_does_not_delay_other_requests() -> None:
    async with _unread_batch(9000) as (service, _, attempts):
        assert [one.bulkhead.in_flight for one in service.state.upstreams.values()] == [0, 0, 0]
        for user in range(1000, 1010):
            response = await service.overview_of(user)
            assert response.json["complete"] is True
            assert response.seconds < NOISE
        assert _attempts(service) == attempts + 10 * 3


async def test_a_slow_reader_that_resumes_before_the_deadline_gets_every_item() -> None:
    async with _unread_batch(9000) as (service, stream, _):
        items = await _read_items(stream)
        assert sorted(item["user_id"] for item in items) == list(range(1, _USERS + 1))
        assert all(item["overview"]["complete"] for item in items)
        assert await service.leaks() == []


async def test_a_slow_reader_that_resumes_after_the_deadline_gets_failed_items() -> None:
    async with _unread_batch(1500) as (service, stream, attempts):
        await asyncio.sleep(stream.sent_at + 1.6 - perf_counter())
        items = await _read_items(stream)
        assert sorted(item["user_id"] for item in items) == list(range(1, _USERS + 1))
        failed = [item["error"]["status"] for item in items if item["status"] == "failed"]
        assert len(failed) == _USERS - len(service.upstreams["users"].exchanges)
        assert set(failed) <= {503, 504}
        assert _attempts(service) == attempts
        assert await service.leaks() == []


async def test_a_stream_that_is_never_read_is_disconnected_at_the_idle_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.6)
    before = _data_in_memory()
    async with _unread_batch(9000) as (service, stream, _):
        assert await service.leaks() == []
        assert _data_in_memory() == before
        with pytest.raises(ConnectionError):
            await _read_items(stream)


async def test_a_half_closed_connection_is_disconnected_at_the_idle_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service does not see the FIN while it waits to write."""
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.6)
    async with _unread_batch(9000) as (service, stream, _):
        stream.half_close()
        assert await service.leaks() == []


async def test_a_slow_reader_of_a_chunked_stream_gets_every_item_beyond_the_idle_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.8)
    async with _unread_batch(9000) as (_, stream, _):
        began = perf_counter()
        items = 0
        async for chunk in stream:
            items += len(chunk.lines)
            await asyncio.sleep(0.02)
        assert items == _USERS
        assert perf_counter() - began > 1.6


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_a_json_batch_that_is_never_read_is_disconnected_at_the_idle_timeout(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.6)
    async with _json_batch(connection) as (reader, content_length):
        await asyncio.sleep(1.5)
        body = await asyncio.wait_for(reader.read(), 5)
        assert 0 < len(body) < content_length


async def test_a_slow_reader_of_a_json_batch_gets_its_content_length_beyond_the_idle_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.6)
    async with _json_batch("close") as (reader, content_length):
        received = 0
        while data := await asyncio.wait_for(reader.read(300_000), 5):
            received += len(data)
            await asyncio.sleep(len(data) / 15_000_000)  # two seconds in all
        assert received == content_length


@asynccontextmanager
async def _json_batch(connection: str) -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """The unread body of a batch in JSON, and its `Content-Length`."""
    async with running_service({"posts": _large_post}, log_level="error") as service:
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        lines = [f"GET {_OVERVIEWS} HTTP/1.1", "Host: service", f"Connection: {connection}"]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        content_length = re.search(rb"(?i)content-length: (\d+)", head)
        assert content_length is not None
        yield reader, int(content_length[1])
        writer.close()
