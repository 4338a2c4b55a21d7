"""The real service on a real socket, between real upstreams and a real client."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI

from app.api.dependencies import Service
from app.api.protocol import Protocol
from app.main import create_app
from app.settings import Settings
from app.upstream.client import Transport
from tests.service.replies import good
from tests.service.upstream import Reply, Upstream

# Upon every promise of milliseconds: two busy cores of a CI machine may stop a process for so long.
NOISE = 0.25

_PATIENCE = 2.0  # seconds for what has no promise but must happen


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def raw(self) -> str:
        """All that the client got to see."""
        return "\n".join([*(f"{k}: {v}" for k, v in self.headers.items()), self.text])


@dataclass
class Running:
    url: str
    service: Service
    frontend: aiohttp.ClientSession
    upstreams: Mapping[str, Upstream]
    _tasks: set[asyncio.Task[Any]] = field(default_factory=asyncio.all_tasks)

    async def get(self, path: str, **headers: str) -> Answered:
        """GET as a frontend does. Cancelled, the client hangs up."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        began = perf_counter()
        async with self.frontend.get(self.url + path, headers=sent) as answer:
            text = await answer.text()
            return Answered(answer.status, answer.headers, text, perf_counter() - began)

    async def overview(self, query: str = "", **headers: str) -> Answered:
        return await self.overview_of(1, query, **headers)

    async def overview_of(self, user_id: int, query: str = "", **headers: str) -> Answered:
        """Clients that ask for the same user at the same time share what is asked upstream."""
        return await self.get(f"/v1/users/{user_id}/overview{query}", **headers)

    async def leftovers(self) -> list[str]:
        """What is still held or going on because of earlier requests; it gets a moment to end."""
        await eventually(lambda: not any(self._left()))
        return list(self._left())

    def _left(self) -> Iterator[str]:
        for name, asked in self.service.upstreams.items():
            bulkhead = asked.bulkhead
            if bulkhead.in_flight or bulkhead.queued:
                yield f"{bulkhead.in_flight} permits of {name}, {bulkhead.queued} in its queue"
        for name, upstream in self.upstreams.items():
            if upstream.in_flight:
                yield f"{upstream.in_flight} exchanges with {name}"
        yield from map(repr, asyncio.all_tasks() - self._tasks)


async def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for what nobody announces, but not for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 - that is what nobody announces
                await asyncio.sleep(0.002)
    return condition()


@asynccontextmanager
async def running(
    replies: Mapping[str, Reply] | None = None,
    each: Mapping[str, object] | None = None,
    host: str = "127.0.0.1",
    transport: Transport | None = None,
    **settings: object,
) -> AsyncIterator[Running]:
    """The service with an upstream for each section, all good but for `replies`.

    `each` are settings of every upstream. In the end, no connection of the service is left.
    """
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(Upstream((replies or {}).get(name, good)))
            for name in ("users", "posts", "todos")
        }
        told = {
            name: {**(each or {}), "urls": f"http://{host}:{upstream.port}"}
            for name, upstream in upstreams.items()
        }
        app = create_app(Settings.model_validate({"upstreams": told, **settings}), transport)
        async with _served(app) as url, _frontend() as frontend:
            yield Running(url, app.state.service, frontend, upstreams)
        assert await eventually(lambda: not any(one.open for one in upstreams.values()))


def _frontend() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=10),
    )


@asynccontextmanager
async def _served(app: FastAPI) -> AsyncIterator[str]:
    """What `uvicorn.Server.serve` does, but for the signals, which stay the test runner's."""
    config = uvicorn.Config(
        app, port=0, http=Protocol, ws="none", log_config=None, access_log=False
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.shutdown()
