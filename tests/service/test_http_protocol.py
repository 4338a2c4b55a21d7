"""HTTP/1.1 as clients may break it: malformed requests, huge heads, pipelining, idle timeouts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.server import idle_timeout
from tests.service.replies import delayed, never
from tests.service.running import NOISE, RunningService, running_service

pytestmark = pytest.mark.anyio

_REQUEST = b"GET /livez HTTP/1.1\r\nHost: service\r\n"
_OVERVIEW = b"GET /v1/users/1/overview?include=posts HTTP/1.1\r\nHost: service\r\n\r\n"


@asynccontextmanager
async def _connection(
    service: RunningService,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _refusal(service: RunningService, data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Head and problem of the response to `data`, after which the service must disconnect."""
    async with _connection(service) as (reader, writer):
        writer.write(data)
        head, _, body = (await asyncio.wait_for(reader.read(), 2)).partition(b"\r\n\r\n")
        return head, json.loads(body)


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\r\n\r\n", b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTQ/1.1\r\n\r\n"],
    ids=["not HTTP", "an unknown method", "an unknown version"],
)
async def test_a_malformed_request_gets_a_400_problem(request_: bytes) -> None:
    async with running_service() as service:
        head, problem = await _refusal(service, request_)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert (problem["type"], problem["status"]) == ("/problems/malformed_request", 400)


@pytest.mark.parametrize(
    ("start", "filler"),
    [(_REQUEST + b"X: ", b"a"), (_REQUEST, b"X: a\r\n"), (b"GET /", b"a")],
    ids=["one long header", "many headers", "a long path"],
)
async def test_a_head_above_the_limit_gets_a_431_problem(start: bytes, filler: bytes) -> None:
    # Just one byte above the limit: unread data would turn the close into a reset, and the
    # response could be lost.
    data = (start + filler * 65_536)[:65_537]
    async with running_service() as service:
        head, problem = await _refusal(service, data)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert (problem["type"], problem["status"]) == ("/problems/head_too_large", 431)


async def test_the_head_limit_counts_anew_for_each_request_of_a_keep_alive_connection() -> None:
    async with running_service() as service, _connection(service) as (reader, writer):
        for _ in range(3):
            writer.write(_REQUEST + b"X: %b\r\n\r\n" % (b"a" * 40_000))
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 2)
            await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)


async def test_a_request_body_does_not_count_towards_the_head_limit() -> None:
    async with running_service() as service, _connection(service) as (reader, writer):
        writer.write(b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        assert b" 405 " in await asyncio.wait_for(reader.readline(), 2)
        writer.write(b"a" * 100_000 + _REQUEST + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)


@pytest.mark.parametrize("behind", [_REQUEST + b"\r\n", b"nonsense\r\n\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_pipelined_request_is_dropped_and_the_first_response_closes_the_connection(
    behind: bytes, at_once: bool
) -> None:
    async with (
        running_service({"posts": delayed(0.1)}) as service,
        _connection(service) as (reader, writer),
    ):
        writer.write(_OVERVIEW + behind * at_once)
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        writer.write(behind * (not at_once))
        responses = await asyncio.wait_for(reader.read(), 2)
    assert responses.startswith(b"HTTP/1.1 200 ")
    assert responses.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in responses


async def test_a_disconnect_after_pipelining_cancels_the_attempts() -> None:
    async with (
        running_service({"posts": never}, {"attempt_timeout": 5}) as service,
        _connection(service) as (_, writer),
    ):
        writer.write(_OVERVIEW * 2)
        attempt = await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        disconnected_at = perf_counter()
        writer.close()
        assert await asyncio.wait_for(attempt.disconnected, 2) - disconnected_at < 0.1 + NOISE
        assert await service.leaks() == []


@pytest.mark.parametrize("sent", [b"", b"GET /liv", _REQUEST], ids=["nothing", "a line", "headers"])
async def test_an_incomplete_head_is_closed_at_the_idle_timeout(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.2)
    async with running_service() as service, _connection(service) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_the_idle_timeout_starts_anew_for_each_head_of_a_keep_alive_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 1.0)
    async with running_service() as service, _connection(service) as (reader, writer):
        for _ in range(3):
            writer.write(_REQUEST)
            await asyncio.sleep(0.4)
            writer.write(b"\r\n")
            await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)
        writer.write(_REQUEST)
        assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_the_idle_timeout_of_a_head_does_not_run_during_the_response_or_a_request_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_timeout, "IDLE_TIMEOUT", 0.1)
    async with (
        running_service({"posts": delayed(0.3)}) as service,
        _connection(service) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(_OVERVIEW.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"))
            await asyncio.wait_for(reader.readuntil(b'"complete":true'), 2)
            writer.write(b"a")
            await asyncio.sleep(0.3)
