"""The service under test: a process of its own, as it is run in production, and its client."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from benchmarks.process import HOST, free_port, server

NAMES = ("USERS", "POSTS", "TODOS")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a client got. `status` 0: nothing that is HTTP."""

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

    async def get(self, path: str, **headers: str) -> Answered:
        """GET as a frontend does. Cancelled, it hangs up."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        began = perf_counter()
        try:
            async with self._client.get(self.url + path, headers=sent) as answer:
                text = await answer.text()
                return Answered(began, perf_counter() - began, answer.status, answer.headers, text)
        except aiohttp.ClientError as error:
            return Answered(began, perf_counter() - began, 0, {}, repr(error))

    async def overview(self, user_id: int, query: str = "", **headers: str) -> Answered:
        return await self.get(f"/v1/users/{user_id}/overview{query}", **headers)

    async def health(self) -> dict[str, Any]:
        """What `/readyz` says of each upstream."""
        upstreams: dict[str, Any] = (await self.get("/readyz?verbose")).json["upstreams"]
        return upstreams

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def sockets(self) -> int:
        """Connections that the process holds, its listener included."""
        held = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                held += str(descriptor.readlink()).startswith("socket:")
            except FileNotFoundError:  # closed while we looked
                pass
        return held


@asynccontextmanager
async def served(
    directory: Path, each: Mapping[str, object], module: str = "app", **settings: object
) -> AsyncIterator[Service]:
    """`python -m app` on a core of its own; `each` are settings of every upstream."""
    port = free_port()
    log = directory / f"{port}.log"
    told = {f"UPSTREAMS__{name}__{key}": value for key, value in each.items() for name in NAMES}
    environment = {
        "HOST": HOST,
        "PORT": str(port),
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "error",
        **{name: str(value) for name, value in (told | settings).items()},
    }
    # The shell gives standard output a place, and is replaced by the service.
    command = ["sh", "-c", f'exec "$0" -m {module} > "$1"', sys.executable, str(log)]
    core = min(os.sched_getaffinity(0) ^ _ALL or _ALL)
    process = server(command, environment, port=port, core=core, directory=directory)
    # In a thread: while it starts and stops, its upstreams, which are ours, have to answer.
    pid = await asyncio.to_thread(process.__enter__)
    try:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=30),
        ) as client:
            service = Service(f"http://{HOST}:{port}", pid, log, client)
            await service.health()  # the port is open before anybody answers there
            yield service
    finally:
        await asyncio.to_thread(process.__exit__, None, None, None)


_ALL = os.sched_getaffinity(0)
"""Read before the harness confines itself to one of them."""
