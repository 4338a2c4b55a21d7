"""Whoever reads the log may pause or go away: no answer differs, and none is late for it."""

import asyncio
import contextlib
import os
import re
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter

import aiohttp
import pytest

from tests.service.process import log_event, service_process

pytestmark = pytest.mark.anyio

FAILING = {"X-Demo-Fault": "posts=failing", "X-Request-Id": "r" * 100}


@asynccontextmanager
async def service(directory: Path) -> AsyncIterator[tuple[Process, str, aiohttp.ClientSession]]:
    settings = {"DEMO_LATENCY": "0"}
    async with service_process(directory, **settings) as process, aiohttp.ClientSession() as client:
        url = (await log_event(process, "listening"))["overview"]
        yield process, url, client


async def statuses(client: aiohttp.ClientSession, url: str, count: int) -> set[int]:
    found = set()
    for _ in range(count):
        async with client.get(url, headers=FAILING) as response:
            await response.read()
            found.add(response.status)
    return found


@contextmanager
def paused_reading(process: Process) -> Iterator[None]:
    assert process.stdout is not None
    transport = process.stdout._transport  # type: ignore[attr-defined]
    transport.pause_reading()
    try:
        yield
    finally:
        transport.resume_reading()


async def test_answers_are_the_same_when_the_log_reader_has_gone(tmp_path: Path) -> None:
    async with service(tmp_path) as (process, url, client):
        before = await statuses(client, url, 1)
        assert process.stdout is not None
        process.stdout._transport.close()  # type: ignore[attr-defined]
        assert await statuses(client, url, 50) == before
        async with client.get(url, headers={**FAILING, "Accept": "text/event-stream"}) as response:
            assert "event: done" in await response.text()


@pytest.mark.parametrize("log_format", ["json", "auto"])
async def test_without_a_standard_output_there_is_no_log_and_no_connection_gets_it(
    tmp_path: Path, log_format: str
) -> None:
    closed = ("sh", "-c", 'exec "$0" -m app >&-', sys.executable)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"DEMO_LATENCY": "0", "PORT": str(port), "LOG_FORMAT": log_format}
    async with service_process(tmp_path, closed, **settings) as process:
        async with aiohttp.ClientSession() as client:
            url = f"http://127.0.0.1:{port}/v1/users/1/overview"
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    assert await statuses(client, url, 20) == {200}
                    break
                await asyncio.sleep(0.02)
        assert os.readlink(f"/proc/{process.pid}/fd/1") == "/dev/null"  # noqa: PTH115


async def test_answers_are_as_quick_while_the_log_reader_pauses(tmp_path: Path) -> None:
    async with service(tmp_path) as (process, url, client):
        with paused_reading(process):
            began = perf_counter()
            # More lines than any pipe and reader hold.
            assert await statuses(client, url, 1000)
            assert perf_counter() - began < 10
            async with client.get(url.partition("/v1")[0] + "/livez") as response:
                assert response.status == 200


async def test_control_characters_of_a_path_do_not_reach_the_terminal(tmp_path: Path) -> None:
    settings = {"LOG_FORMAT": "console", "DEMO_LATENCY": "0"}
    async with service_process(tmp_path, **settings) as process:
        assert process.stdout is not None
        line = b""
        while b"listening" not in line:
            line = await process.stdout.readline()
        url = line.split(b"http://")[1].split(b"/")[0].decode()
        host, port = url.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"GET /%1b]0;gotcha%07%0a%c2%9b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        await reader.read()
        writer.close()
        while b"gotcha" not in line:
            line = await process.stdout.readline()
    line = re.sub(rb"\x1b\[[0-9;]*m", b"", line)  # colours are ours
    assert not any(byte < 0x20 for byte in line.rstrip(b"\n"))
    assert b"\xc2\x9b" not in line
