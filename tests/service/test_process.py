"""The service as it is really run: `python -m app`, its signals, and how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parents[2]
_PATIENCE = 10.0


@asynccontextmanager
async def _started(elsewhere: Path, **settings: str) -> AsyncIterator[Process]:
    """`python -m app`, away from any `.env` that a developer may have beside it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app"),
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PORT": "0", "LOG_FORMAT": "json", **settings},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _told(process: Process, event: str) -> Any:
    assert process.stdout
    async for line in process.stdout:
        told = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError(f"the process ended without a word of {event!r}")


async def test_a_stop_signal_lets_an_answer_in_flight_finish(tmp_path: Path) -> None:
    limits = {f"UPSTREAMS__{name}__ATTEMPT_TIMEOUT": "5" for name in ("USERS", "POSTS", "TODOS")}
    each_anew = aiohttp.TCPConnector(force_close=True)
    async with (
        _started(tmp_path, DEMO_LATENCY="0.8", REQUEST_TIMEOUT="5", **limits) as process,
        aiohttp.ClientSession(connector=each_anew) as client,
    ):
        overview = (await _told(process, "listening"))["overview"]
        base = "{0.scheme}://{0.netloc}".format(urlsplit(overview))
        asking = asyncio.create_task(_get(client, overview))
        await _ready(client, base, lambda _, health: _in_flight(health) > 0)
        process.send_signal(signal.SIGTERM)
        health = await _ready(client, base, lambda status, _: status == 503)
        assert health["type"] == "/problems/draining"
        await asyncio.sleep(0.25)  # a load balancer takes its time to look: the door stays open
        assert (await _get(client, f"{base}/readyz"))[0] == 503
        assert not asking.done()
        status, answer = await asking
        assert (status, answer["complete"]) == (200, True)
        assert await process.wait() == 0
        assert process.stderr
        assert await process.stderr.read() == b""


async def test_a_second_signal_ends_it_at_once_and_not_with_0(tmp_path: Path) -> None:
    async with _started(tmp_path, DEMO_LATENCY="0.7") as process, aiohttp.ClientSession() as client:
        overview = (await _told(process, "listening"))["overview"]
        base = "{0.scheme}://{0.netloc}".format(urlsplit(overview))
        asking = asyncio.create_task(_get(client, overview))
        await _ready(client, base, lambda _, health: _in_flight(health) > 0)
        process.send_signal(signal.SIGTERM)
        await _ready(client, base, lambda status, _: status == 503)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(aiohttp.ClientError):
            status, answer = await asking
            assert (status, answer["type"]) == (503, "/problems/draining")
        assert await process.wait() not in (0, None)


async def _get(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with client.get(url) as answer:
        return answer.status, await answer.json()


async def _ready(
    client: aiohttp.ClientSession, base: str, wanted: Callable[[int, Any], bool]
) -> Any:
    """What `/readyz` says, as soon as it says what is wanted."""
    while True:
        status, health = await _get(client, f"{base}/readyz?verbose")
        if wanted(status, health):
            return health
        await asyncio.sleep(0.005)


def _in_flight(health: Any) -> int:
    return sum(upstream["permits"]["in_use"] for upstream in health["upstreams"].values())


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_with_nothing_set_it_answers_and_stops_with_0(
    tmp_path: Path, stop: signal.Signals
) -> None:
    async with _started(tmp_path) as process, aiohttp.ClientSession() as client:
        listening = await _told(process, "listening")
        assert listening["upstreams"] == "demo"
        status, answer = await _get(client, listening["overview"])
        assert (status, answer["complete"]) == (200, True)
        process.send_signal(stop)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REQUEST_TIMEOUT", "hunter2"),
        ("UPSTREAMS__POSTS__HEADERS", '{"Authorization": "hunter2\\n"}'),
    ],
)
async def test_a_wrong_setting_stops_the_start_with_one_line(
    tmp_path: Path, variable: str, value: str
) -> None:
    async with _started(tmp_path, **{variable: value}) as process:
        out, error = await process.communicate()
        assert process.returncode not in (0, None)
        assert error.decode().count("\n") == 1
        assert error.decode().startswith(variable)
        assert b"hunter2" not in out + error


async def test_an_address_that_cannot_be_had_names_its_variables(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with _started(tmp_path, HOST="127.0.0.1", PORT=port) as process:
            _, error = await process.communicate()
    assert process.returncode not in (0, None)
    assert error.decode() == "HOST, PORT: cannot be listened on: Address already in use\n"
