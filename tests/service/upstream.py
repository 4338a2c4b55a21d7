"""An upstream of our own on raw sockets: it does what its reply does, and counts what it sees."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from types import TracebackType
from typing import Self, cast


@dataclass(eq=False)
class Exchange:
    """One request, and the connection that waits for its answer. Times are of `perf_counter`."""

    connection: "Connection"
    target: str
    headers: Mapping[str, str]
    began: float = field(default_factory=perf_counter)
    ended: float | None = None
    gone: asyncio.Future[float] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """When the service closed the connection, if it did so before its answer was out."""

    @property
    def first(self) -> bool:
        """Whether the connection was made for this request, and not kept from an earlier one."""
        return self.connection.exchanges == 1

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.connection.transport.write(part)
            await self.connection.writable.wait()

    def close(self) -> None:
        self.connection.transport.close()

    def reset(self) -> None:
        """End the connection with a RST, not with the FIN of a polite one."""
        ended = self.connection.transport.get_extra_info("socket")
        ended.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.transport.abort()


Reply = Callable[[Exchange], Awaitable[None]]


async def refused(exchange: Exchange) -> None:
    """The reply of an upstream that does not even listen."""
    raise AssertionError(f"{exchange} cannot have arrived")


class Upstream:
    """Use inside `async with`. A connection without a request costs no task."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._tasks: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None
        self.seen: list[Exchange] = []
        self.arrivals: asyncio.Queue[Exchange] = asyncio.Queue()
        self.connections = 0
        self.open: set[Connection] = set()
        self.in_flight = 0
        self.most_in_flight = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        if self._reply is refused:  # nobody else gets the port: it is ours until the test is over
            listener.close()
            self._bound = socket.socket()
            self._bound.bind(("127.0.0.1", self.port))
            return self
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listener)
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
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task  # a defect of a reply must not pass for the fault it was to be
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """Close every connection there is, as an upstream does with those that idled too long."""
        for connection in list(self.open):
            connection.transport.close()

    def begin(self, exchange: Exchange) -> asyncio.Task[None]:
        self.seen.append(exchange)
        self.arrivals.put_nowait(exchange)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        task = asyncio.create_task(self._answer(exchange))
        self._tasks.append(task)
        return task

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await self._reply(exchange)
        finally:
            # In the step that wrote the last byte: the service cannot have it any sooner.
            self.in_flight -= 1
            exchange.ended = perf_counter()


class Connection(asyncio.Protocol):
    """Cuts requests out of the bytes, and tells a reply at once when its reader has left."""

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
            named = (line.split(": ", 1) for line in lines)
            headers = {name.lower(): value for name, value in named}
            self._exchange = Exchange(self, request.split(" ")[1], headers)
            self._task = self._upstream.begin(self._exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.open.discard(self)
        if self._exchange and self._task and not self._task.done():
            self._exchange.gone.set_result(perf_counter())
            self._task.cancel()
