"""An upstream on raw sockets: it answers as its `Reply` does, and records every exchange."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self, cast

HOST = "127.0.0.1"


@dataclass(eq=False)
class Exchange:
    """One request, and the connection that its response goes to. Times are of `perf_counter`."""

    connection: "Connection"
    target: str
    headers: Mapping[str, str]
    began: float = field(default_factory=perf_counter)
    ended: float | None = None
    disconnected: asyncio.Future[float] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """When the service closed the connection, if it did so before the response was sent."""

    @property
    def first(self) -> bool:
        """Whether this is the first request on its connection, not one on a kept-alive one."""
        return self.connection.exchanges == 1

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.transport.write(part)
            await self.connection.writable.wait()

    def close(self) -> None:
        self.connection.transport.close()

    def reset(self) -> None:
        """Close the connection with a RST instead of a FIN."""
        closing = self.connection.transport.get_extra_info("socket")
        closing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.transport.abort()


Reply = Callable[[Exchange], Awaitable[None]]


async def refused(exchange: Exchange) -> None:
    """The reply of an upstream that does not even listen."""
    raise AssertionError(f"{exchange} cannot have arrived")


class Upstream:
    """Use inside `async with`. A connection without a request costs no task."""

    def __init__(
        self,
        reply: Reply,
        tls: ssl.SSLContext | None = None,
        address: tuple[str, int] = (HOST, 0),
    ) -> None:
        self._reply = reply
        self._tls = tls
        self._address = address
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self.exchanges: list[Exchange] = []
        self.arrivals: asyncio.Queue[Exchange] = asyncio.Queue()
        self.open: set[Connection] = set()
        self.connections = 0
        """How many were made, the closed ones included."""
        self.in_flight = 0
        self.max_in_flight = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        listener = socket.create_server(self._address)
        self.port: int = listener.getsockname()[1]
        if self._reply is refused:  # the port stays bound, so that nobody else gets it
            listener.close()
            self._bound = socket.socket()
            self._bound.bind((HOST, self.port))
        else:
            await self._listen(listener)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._server is None:
            self._bound.close()
            return
        self._server.close()
        self.close_connections()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task  # a bug in a reply must not pass for the fault that it simulates
        await self._server.wait_closed()

    @asynccontextmanager
    async def refusing(self) -> AsyncIterator[None]:
        """Refuse connections for the duration of the block; the port stays bound meanwhile."""
        assert self._server is not None
        self._server.close()
        self.close_connections()
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, self.port))
        try:
            yield
        finally:
            await self._listen(bound)

    def close_connections(self) -> None:
        """Close every open connection, as an upstream does with idle ones."""
        for connection in list(self.open):
            connection.transport.close()

    def begin(self, exchange: Exchange) -> asyncio.Task[None]:
        self.exchanges.append(exchange)
        self.arrivals.put_nowait(exchange)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        task = asyncio.create_task(self._respond(exchange))
        self._tasks.append(task)
        return task

    async def _listen(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), sock=listener, ssl=self._tls
        )

    async def _respond(self, exchange: Exchange) -> None:
        try:
            await self._reply(exchange)
        finally:
            # In the same step as the last write, so before the service can have read it.
            self.in_flight -= 1
            exchange.ended = perf_counter()


class Connection(asyncio.Protocol):
    """Parses requests, and cancels the reply when the service disconnects."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self.exchanges = 0
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upstream.connections += 1
        self._upstream.open.add(self)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if end:
            self._received = rest
            self.exchanges += 1
            request, *lines = head.decode("latin-1").split("\r\n")
            fields = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in fields}
            self._exchange = Exchange(self, request.split(" ")[1], headers)
            self._task = self._upstream.begin(self._exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self)
        if self._exchange and self._task and not self._task.done():
            self._exchange.disconnected.set_result(perf_counter())
            self._task.cancel()
