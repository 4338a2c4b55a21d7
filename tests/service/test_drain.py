"""Draining: after a stop signal responses in flight finish, `/readyz` fails, and the process ends.

A second signal, a second later or more, ends it at once.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp
import pytest

from tests.service.process import ROOT, SERVICE, base_url, log_event, service_process
from tests.service.replies import good, respond_with
from tests.service.stream import NDJSON, SSE, Stream
from tests.service.upstream import Exchange, Upstream

pytestmark = pytest.mark.anyio

_OVERVIEW = "/v1/users/1/overview"
_LARGE = b"x" * 500_000


def _overviews(users: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user}" for user in range(1, users + 1))


async def test_draining_finishes_a_response_in_flight_while_readyz_gives_503(
    tmp_path: Path,
) -> None:
    limits = {f"UPSTREAMS__{name}__ATTEMPT_TIMEOUT": "5" for name in ("USERS", "POSTS", "TODOS")}
    no_keep_alive = aiohttp.TCPConnector(force_close=True)
    async with (
        service_process(tmp_path, DEMO_LATENCY="0.8", REQUEST_TIMEOUT="5", **limits) as process,
        aiohttp.ClientSession(connector=no_keep_alive) as client,
    ):
        overview = (await log_event(process, "listening"))["overview"]
        base = base_url(overview)
        request = asyncio.create_task(_get(client, overview))
        await _readyz(client, base, lambda _, health: _in_flight(health) > 0)
        process.send_signal(signal.SIGTERM)
        health = await _readyz(client, base, lambda status, _: status == 503)
        assert health["type"] == "/problems/draining"
        await asyncio.sleep(0.25)  # a load balancer polls now and then: the listener stays open
        assert (await _get(client, f"{base}/readyz"))[0] == 503
        assert not request.done()
        status, body = await request
        assert (status, body["complete"]) == (200, True)
        assert await process.wait() == 0
        assert process.stderr
        assert await process.stderr.read() == b""


async def test_a_second_signal_while_draining_ends_the_process_at_once_and_not_with_exit_code_0(
    tmp_path: Path,
) -> None:
    async with _request_in_flight(tmp_path, seconds=4) as (process, request, client, base):
        process.send_signal(signal.SIGTERM)
        await _readyz(client, base, lambda status, _: status == 503)
        await asyncio.sleep(1.1)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(aiohttp.ClientError):
            status, body = await request
            assert (status, body["type"]) == (503, "/problems/draining")
        assert await process.wait() not in (0, None)
        assert process.stdout
        assert process.stderr
        assert b"Traceback" not in await process.stdout.read()
        assert await process.stderr.read() == (
            b"stopped before the answers in flight were finished\n"
        )


async def test_two_signals_in_a_row_are_one_stop_as_when_a_parent_hands_them_on(
    tmp_path: Path,
) -> None:
    async with _request_in_flight(tmp_path, seconds=1) as (process, request, client, base):
        for _ in range(3):
            process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.15)
        await _readyz(client, base, lambda status, _: status == 503)
        status, body = await request
        assert (status, body["complete"]) == (200, True)
        assert await process.wait() == 0


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
async def test_a_signal_to_the_process_group_of_make_run_is_one_stop(tmp_path: Path) -> None:
    """Make hands it on to the service, which has had it already. Nothing is installed for this."""
    recipe = ("--no-print-directory", "-f", str(ROOT / "Makefile"), "-o", ".venv/run", "run")
    binaries = f"BIN={Path(sys.executable).parent}"
    async with _request_in_flight(tmp_path, seconds=1, command=("make", *recipe, binaries)) as (
        process,
        request,
        client,
        base,
    ):
        os.killpg(process.pid, signal.SIGTERM)
        await _readyz(client, base, lambda status, _: status == 503)
        status, body = await request
        assert (status, body["complete"]) == (200, True)
        await process.wait()
        assert process.stderr
        assert b"stopped before" not in await process.stderr.read()


async def test_drain_seconds_keep_the_listener_open_while_readyz_gives_503(tmp_path: Path) -> None:
    async with (
        service_process(tmp_path, DEMO_LATENCY="0", DRAIN_SECONDS="1.5") as process,
        aiohttp.ClientSession() as client,
    ):
        overview = (await log_event(process, "listening"))["overview"]
        base = base_url(overview)
        process.send_signal(signal.SIGTERM)
        began = perf_counter()
        await _readyz(client, base, lambda status, _: status == 503)
        while perf_counter() - began < 1.2:
            assert (await _get(client, f"{base}/readyz"))[0] == 503
            assert (await _get(client, overview))[0] == 200  # who comes is answered all the same
            await asyncio.sleep(0.1)
        assert await process.wait() == 0
        assert 1.5 <= perf_counter() - began < 4


@pytest.mark.parametrize("accept", [NDJSON, "application/json"], ids=["ndjson", "json"])
async def test_draining_does_not_wait_for_ever_for_a_slow_reader(
    tmp_path: Path, accept: str
) -> None:
    async def large(exchange: Exchange) -> None:
        path, _, user = exchange.target.partition("?userId=")
        if path == "/posts":
            post = b'[{"userId":%d,"id":1,"title":"","body":"%b"}]' % (int(user), _LARGE)
            await respond_with(post)(exchange)
        else:
            await good(exchange)

    async with Upstream(large) as upstream, AsyncExitStack() as stack:
        settings = {"REQUEST_TIMEOUT": "1", "REQUEST_TIMEOUT_MAX": "1"}
        process = await stack.enter_async_context(
            service_process(tmp_path, UPSTREAM_URL=upstream.url, **settings)
        )
        url = base_url((await log_event(process, "listening"))["overview"])
        async with Stream(url, _overviews(100), accept, window=4096):
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


@pytest.mark.parametrize("signals", [1, 2], ids=["one signal", "two signals"])
@pytest.mark.parametrize(
    ("path", "accept", "demo_faults", "parts"),
    [(_OVERVIEW, SSE, "posts=slow", 4), (_overviews(10), NDJSON, "", 10)],
    ids=["sse", "ndjson"],
)
async def test_draining_finishes_streams_unless_a_second_signal_comes(
    tmp_path: Path, path: str, accept: str, demo_faults: str, parts: int, signals: int
) -> None:
    async with service_process(tmp_path, DEMO_LATENCY="0.2", FAN_OUT="3") as process:
        url = base_url((await log_event(process, "listening"))["overview"])
        async with Stream(
            url, path, accept, X_Demo_Fault=demo_faults, X_Request_Timeout_Ms="9000"
        ) as stream:
            chunks = [await stream.next_chunk()]
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(1.3)  # a second one within a second would be the same stop
            broken_off = pytest.raises(ConnectionError) if signals == 2 else nullcontext()
            with broken_off:
                async for chunk in stream:
                    chunks.append(chunk)  # noqa: PERF401 - also those before the stream broke off
        received = sum(len(one.events if accept == SSE else one.lines) for one in chunks)
        assert (received == parts) is (signals == 1)
        assert await process.wait() == signals - 1


@asynccontextmanager
async def _request_in_flight(
    directory: Path, seconds: int, command: tuple[str, ...] = SERVICE
) -> AsyncIterator[tuple[Process, asyncio.Task[Any], aiohttp.ClientSession, str]]:
    """A service whose upstreams take `seconds`, with a request that waits for them."""
    limits = {f"UPSTREAMS__{name}__ATTEMPT_TIMEOUT": "9" for name in ("USERS", "POSTS", "TODOS")}
    async with (
        service_process(
            directory, command, DEMO_LATENCY=str(seconds), REQUEST_TIMEOUT="9", **limits
        ) as process,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client,
    ):
        overview = (await log_event(process, "listening"))["overview"]
        base = base_url(overview)
        request = asyncio.create_task(_get(client, overview))
        await _readyz(client, base, lambda _, health: _in_flight(health) > 0)
        yield process, request, client, base


async def _get(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with client.get(url) as response:
        return response.status, await response.json()


async def _readyz(
    client: aiohttp.ClientSession, base: str, condition: Callable[[int, Any], bool]
) -> Any:
    """The body of `/readyz` as soon as its status and body meet the condition."""
    while True:
        status, health = await _get(client, f"{base}/readyz?verbose")
        if condition(status, health):
            return health
        await asyncio.sleep(0.005)


def _in_flight(health: Any) -> int:
    return sum(upstream["permits"]["in_use"] for upstream in health["upstreams"].values())
