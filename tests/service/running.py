"""The real service on a real socket, between real upstreams and a real client."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import aiohttp
import uvicorn
from fastapi import FastAPI

from app.api.dependencies import ServiceState
from app.main import create_app
from app.server.config import ServerConfig
from app.server.http_protocol import HttpProtocol
from app.settings import Settings
from app.telemetry import logs
from app.upstream.client import Transport
from tests.service.replies import good
from tests.service.stream import Stream
from tests.service.upstream import Reply, Upstream

# Added to every bound of milliseconds: two busy cores of a CI machine may stop a process so long.
NOISE = 0.25

_TIMEOUT = 2.0  # seconds for what has no bound of its own but must happen


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    text: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def raw(self) -> str:
        """Headers and body as one text: all that the client can see."""
        return "\n".join([*(f"{k}: {v}" for k, v in self.headers.items()), self.text])


@dataclass
class RunningService:
    url: str
    state: ServiceState
    config: ServerConfig
    client: aiohttp.ClientSession
    upstreams: Mapping[str, Upstream]
    _tasks_before: set[asyncio.Task[Any]] = field(default_factory=asyncio.all_tasks)

    async def get(self, path: str, **headers: str) -> Response:
        """GET as a frontend does. The client disconnects when this is cancelled."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        began = perf_counter()
        async with self.client.get(self.url + path, headers=named) as response:
            text = await response.text()
            return Response(response.status, response.headers, text, perf_counter() - began)

    async def overview(self, query: str = "", **headers: str) -> Response:
        return await self.overview_of(1, query, **headers)

    async def overview_of(self, user_id: int, query: str = "", **headers: str) -> Response:
        """Concurrent requests for the same user coalesce: they share their upstream calls."""
        return await self.get(f"/v1/users/{user_id}/overview{query}", **headers)

    def stream(
        self, path: str, accept: str, *, window: int | None = None, **headers: str
    ) -> Stream:
        return Stream(self.url, path, accept, window=window, **headers)

    async def leaks(self) -> list[str]:
        """What earlier requests still hold, after a moment to let it end."""
        await eventually(lambda: not any(self._still_held()))
        return list(self._still_held())

    def _still_held(self) -> Iterator[str]:
        for name, upstream_state in self.state.upstreams.items():
            bulkhead = upstream_state.bulkhead
            if bulkhead.in_flight or bulkhead.queued:
                yield f"{bulkhead.in_flight} permits of {name}, {bulkhead.queued} in its queue"
        for name, upstream in self.upstreams.items():
            if upstream.in_flight:
                yield f"{upstream.in_flight} exchanges with {name}"
        yield from map(repr, asyncio.all_tasks() - self._tasks_before)


async def eventually(condition: Callable[[], bool]) -> bool:
    """Whether `condition` comes true before the timeout."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TIMEOUT):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.002)
    return condition()


@asynccontextmanager
async def running_service(
    replies: Mapping[str, Reply] | None = None,
    each: Mapping[str, object] | None = None,
    host: str = "127.0.0.1",
    transport: Transport | None = None,
    **settings: object,
) -> AsyncIterator[RunningService]:
    """The service with three upstreams, which give good answers unless `replies` has another.

    `each` are settings of every upstream. At the end no connection to an upstream may be open.
    """
    async with AsyncExitStack() as stack:
        upstreams = {
            name: await stack.enter_async_context(Upstream((replies or {}).get(name, good)))
            for name in ("users", "posts", "todos")
        }
        upstream_settings = {
            name: {**(each or {}), "urls": f"http://{host}:{upstream.port}"}
            for name, upstream in upstreams.items()
        }
        parsed = Settings.model_validate({"upstreams": upstream_settings, "port": 0, **settings})
        log = logs.logger(parsed)
        app = create_app(parsed, transport, log)
        async with _serve(app, parsed, log) as served, _client_session() as client:
            url, config = served
            yield RunningService(url, app.state.service, config, client, upstreams)
        assert await eventually(lambda: not any(one.open for one in upstreams.values()))


def _client_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=10),
    )


@asynccontextmanager
async def _serve(
    app: FastAPI, settings: Settings, log: logs.Log
) -> AsyncIterator[tuple[str, ServerConfig]]:
    """As `uvicorn.Server.serve`, without its signal handlers: signals are the test runner's."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = ServerConfig(app, HttpProtocol, settings, log, listener, idle_timeout=5)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        port = listener.getsockname()[1]
        yield f"http://127.0.0.1:{port}", config
    finally:
        await server.shutdown(sockets=[listener])
