"""The service under test: a process of its own, run as in production, and its client."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.process import HOST, BenchmarkError, server

_TO_LOG = '> "$1"'
NAMES = ("USERS", "POSTS", "TODOS")


@dataclass(frozen=True, slots=True)
class Response:
    """What a client received. Status 0 stands for a connection error."""

    began: float
    seconds: float
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def complete(self) -> bool:
        return self.status == 200 and self.headers.get("X-Complete") == "true"

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Service:
    url: str
    pid: int
    log: Path
    _client: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> Response:
        """GET as a frontend does. The client disconnects when this is cancelled."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        began = perf_counter()
        try:
            async with self._client.get(self.url + path, headers=named) as response:
                text = await response.text()
                seconds = perf_counter() - began
                return Response(began, seconds, response.status, response.headers, text)
        except aiohttp.ClientError as error:
            return Response(began, perf_counter() - began, 0, {}, repr(error))

    async def overview(self, user_id: int, query: str = "", **headers: str) -> Response:
        return await self.get(f"/v1/users/{user_id}/overview{query}", **headers)

    async def health(self) -> dict[str, Any]:
        """What `/readyz` reports of each upstream."""
        upstreams: dict[str, Any] = (await self.get("/readyz?verbose")).json["upstreams"]
        return upstreams

    def logged_errors(self) -> list[str]:
        return self.log.read_text().splitlines()

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def sockets(self) -> int:
        """Open sockets of the process, its listener included."""
        sockets = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                sockets += str(descriptor.readlink()).startswith("socket:")
            except FileNotFoundError:  # closed since it was listed
                pass
        return sockets


@asynccontextmanager
async def service_process(
    directory: Path,
    each: Mapping[str, object],
    module: str = "app",
    descriptors: int | None = None,
    stdout: str = _TO_LOG,
    /,
    **settings: object,
) -> AsyncIterator[Service]:
    """`python -m app` on a core of its own; `each` are settings of every upstream.

    It may have so many `descriptors`, and its standard output goes to a file, or where the shell
    sends it by `stdout`.
    """
    port = _next_port()
    log = directory / f"{port}.log"
    for_each = {f"UPSTREAMS__{name}__{key}": value for key, value in each.items() for name in NAMES}
    environment = {
        "HOST": HOST,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "error",
        **{name: str(value) for name, value in (for_each | settings).items()},
    }
    # The shell redirects standard output to the log, and is then replaced by the service.
    limit = f"ulimit -n {descriptors} &&" if descriptors else ""
    run = f'{limit} exec "$0" -m {module} {stdout}'
    command = ["sh", "-c", run, sys.executable, str(log)]
    core = min(os.sched_getaffinity(0) ^ _ALL_CORES or _ALL_CORES)
    process = server(command, environment, port=port, core=core, directory=directory)
    # In a thread: the upstreams in this process must respond while the service starts and stops.
    pid = await asyncio.to_thread(process.__enter__)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=30),
        ) as client:
            service = Service(f"http://{HOST}:{port}", pid, log, client)
            await service.health()  # the port is open before the service responds
            yield service
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


def _next_port() -> int:
    """One that is free, and stays so while several services start.

    The system gives none of these to clients and upstreams, which start meanwhile.
    """
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server((HOST, port)):
            return port
    raise BenchmarkError("there is no free port")


_PORTS = iter(range(20_000, 30_000))
_ALL_CORES = os.sched_getaffinity(0)
"""Read at import, before this process confines itself to one core."""
