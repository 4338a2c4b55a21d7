"""What cannot become a request is refused early, and told as a problem; or it has had its time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.server import http_protocol
from tests.service.replies import after, never
from tests.service.running import NOISE, Running, running

pytestmark = pytest.mark.anyio

_REQUEST = b"GET /livez HTTP/1.1\r\nHost: service\r\n"
_OVERVIEW = b"GET /v1/users/1/overview?include=posts HTTP/1.1\r\nHost: service\r\n\r\n"


@asynccontextmanager
async def _connection(
    service: Running,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _said(service: Running, data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Head and problem of the answer to `data`, after which the connection has to end."""
    async with _connection(service) as (reader, writer):
        writer.write(data)
        head, _, body = (await asyncio.wait_for(reader.read(), 2)).partition(b"\r\n\r\n")
        return head, json.loads(body)


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\r\n\r\n", b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTQ/1.1\r\n\r\n"],
    ids=["not HTTP", "an unknown method", "an unknown version"],
)
async def test_what_is_not_http_is_told_so(request_: bytes) -> None:
    async with running() as service:
        head, problem = await _said(service, request_)
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert (problem["type"], problem["status"]) == ("/problems/malformed_request", 400)


@pytest.mark.parametrize(
    ("start", "filler"),
    [(_REQUEST + b"X: ", b"a"), (_REQUEST, b"X: a\r\n"), (b"GET /", b"a")],
    ids=["one long header", "many headers", "a long path"],
)
async def test_a_head_without_an_end_is_cut_off(start: bytes, filler: bytes) -> None:
    # Not a byte more than it takes: what is left unread when a connection ends resets it, and the
    # answer would be lost on the way.
    data = (start + filler * 65_536)[:65_537]
    async with running() as service:
        head, problem = await _said(service, data)
    assert head.startswith(b"HTTP/1.1 431 ")
    assert (problem["type"], problem["status"]) == ("/problems/head_too_large", 431)


async def test_each_request_of_a_connection_has_its_own_allowance() -> None:
    async with running() as service, _connection(service) as (reader, writer):
        for _ in range(3):
            writer.write(_REQUEST + b"X: %b\r\n\r\n" % (b"a" * 40_000))
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 2)
            await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)


async def test_a_body_is_no_part_of_the_head() -> None:
    async with running() as service, _connection(service) as (reader, writer):
        writer.write(b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        assert b" 405 " in await asyncio.wait_for(reader.readline(), 2)
        writer.write(b"a" * 100_000 + _REQUEST + b"\r\n")
        await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)


@pytest.mark.parametrize("behind", [_REQUEST + b"\r\n", b"nonsense\r\n\r\n"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_pipelined_is_dropped_and_the_first_answer_stands(
    behind: bytes, at_once: bool
) -> None:
    async with running({"posts": after(0.1)}) as service, _connection(service) as (reader, writer):
        writer.write(_OVERVIEW + behind * at_once)
        await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        writer.write(behind * (not at_once))
        answers = await asyncio.wait_for(reader.read(), 2)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answers


async def test_a_client_that_pipelined_and_hangs_up_takes_its_attempts_along() -> None:
    async with (
        running({"posts": never}, {"attempt_timeout": 5}) as service,
        _connection(service) as (_, writer),
    ):
        writer.write(_OVERVIEW * 2)
        attempt = await asyncio.wait_for(service.upstreams["posts"].arrivals.get(), 2)
        hung_up = perf_counter()
        writer.close()
        assert await asyncio.wait_for(attempt.gone, 2) - hung_up < 0.1 + NOISE
        assert await service.leftovers() == []


@pytest.mark.parametrize("sent", [b"", b"GET /liv", _REQUEST], ids=["nothing", "a line", "headers"])
async def test_a_head_that_does_not_end_in_time_ends_the_connection(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.2)
    async with running() as service, _connection(service) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_every_head_of_a_connection_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 1.0)
    async with running() as service, _connection(service) as (reader, writer):
        for _ in range(3):
            writer.write(_REQUEST)
            await asyncio.sleep(0.4)
            writer.write(b"\r\n")
            await asyncio.wait_for(reader.readuntil(b'"alive"}'), 2)
        writer.write(_REQUEST)
        assert await asyncio.wait_for(reader.read(), 2) == b""


async def test_neither_the_work_nor_a_body_nor_the_pause_after_it_is_a_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_protocol, "IDLE_TIMEOUT", 0.1)
    async with running({"posts": after(0.3)}) as service, _connection(service) as (reader, writer):
        for _ in range(2):
            writer.write(_OVERVIEW.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"))
            await asyncio.wait_for(reader.readuntil(b'"complete":true'), 2)
            writer.write(b"a")
            await asyncio.sleep(0.3)
