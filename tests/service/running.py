"""The real service on a real socket, between real upstreams and a real client."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import uvicorn
from fastapi import FastAPI

from app.api.dependencies import ServiceState
from app.main import create_app
from app.server.http_protocol import HttpProtocol
from app.settings import Settings
from app.upstream.client import Transport
from tests.service.replies import good
from tests.service.upstream import Reply, Upstream

# Upon every promise of milliseconds: two busy cores of a CI machine may stop a process for so long.
NOISE = 0.25

_PATIENCE = 2.0  # seconds for what has no promise but must happen

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"


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


@dataclass(frozen=True)
class Piece:
    """One chunk of an answer, as the service wrote it, and when it came (by `perf_counter`)."""

    data: bytes
    came: float

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Names and data; comments are no events."""
        told = [block.split("\n") for block in self.data.decode().split("\n\n") if block]
        return [
            (one[0].removeprefix("event: "), json.loads(one[1].removeprefix("data: ")))
            for one in told
            if not one[0].startswith(":")
        ]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.data.splitlines()]


class Stream:
    """A client that takes an answer piece by piece, each when it asks for it and not before.

    Use inside `async with`: the head is there at its beginning, and who leaves it early hangs up.
    With a small `window`, what is not taken stays with the service. Times are of `perf_counter`.
    """

    def __init__(
        self, url: str, path: str, accept: str, *, window: int | None = None, **headers: str
    ) -> None:
        address = urlsplit(url)
        self._address = address.hostname, address.port
        self._path = path
        self._headers = {"Host": address.netloc, "Accept": accept, **headers}
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if window is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._received = bytearray()

    async def __aenter__(self) -> Self:
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, self._address)
            await self.ask(self._path)
        except BaseException:
            self._socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def ask(self, path: str) -> None:
        """Send a request on this connection, and take the head of its answer."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in self._headers.items()]
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()
        await asyncio.get_running_loop().sock_sendall(self._socket, request)
        self.asked = perf_counter()
        status, *lines = (await self._until(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """All that is still to come, up to the end that HTTP says."""
        while size := int(await self._until(b"\r\n"), 16):
            yield await self._piece(size)
        await self._until(b"\r\n")

    async def piece(self) -> Piece:
        """The next one, if it comes soon."""
        async with asyncio.timeout(_PATIENCE):
            return await self._piece(int(await self._until(b"\r\n"), 16))

    def leave(self, *, reset: bool = False) -> float:
        """Hang up, and tell when. It is a RST, not a FIN, also if something was left unread."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left = perf_counter()
        self._socket.close()
        return left

    def finish(self) -> None:
        """Say that nothing more is asked, and stay."""
        self._socket.shutdown(socket.SHUT_WR)

    async def _piece(self, size: int) -> Piece:
        assert size, "the answer is over"
        while len(self._received) < size + 2:
            await self._receive()
        data = bytes(self._received[:size])
        del self._received[: size + 2]
        return Piece(data, perf_counter())

    async def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._receive()
        data, _, self._received = self._received.partition(end)
        return bytes(data)

    async def _receive(self) -> None:
        received = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        if not received:
            raise ConnectionError("the answer broke off")
        self._received += received


@dataclass
class Running:
    url: str
    service: ServiceState
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

    def stream(
        self, path: str, accept: str, *, window: int | None = None, **headers: str
    ) -> Stream:
        return Stream(self.url, path, accept, window=window, **headers)

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
        app, port=0, http=HttpProtocol, ws="none", log_config=None, access_log=False
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
