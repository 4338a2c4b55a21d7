"""Clients and an upstream that cost so little that the service is what is measured.

Of a response they read the status, its length, and whether it is complete; the upstream has three
answers, whoever is asked about.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import NamedTuple, Self, cast
from urllib.parse import urlsplit

from benchmarks.process import HOST
from tests.service.replies import head


class Reply(NamedTuple):
    """What a client got. Status 0 stands for a connection that ended before an answer."""

    began: float
    seconds: float
    status: int
    complete: bool


class Clients:
    """As many connections as are needed, kept for the next request unless `keep` is false."""

    def __init__(self, url: str, *, keep: bool = True) -> None:
        self._keep = keep
        address = urlsplit(url)
        self._address = address.hostname or HOST, address.port or 80
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Client] = []
        self._all: set[_Client] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in list(self._all):
            client.transport.abort()

    async def get(self, path: str) -> Reply:
        request = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode()
        began = perf_counter()
        while self._idle:
            client = self._idle.pop()
            if not client.transport.is_closing():
                break
        else:
            try:
                _, client = await self._loop.create_connection(_Client, *self._address)
            except OSError:
                return Reply(began, perf_counter() - began, 0, complete=False)
            self._all.add(client)
        answer = client.send(request)
        try:
            status, complete = await answer
        except ConnectionError:
            status, complete = 0, False
        if not self._keep:
            client.transport.abort()
        if client.transport.is_closing():
            self._all.discard(client)
        else:
            self._idle.append(client)
        return Reply(began, perf_counter() - began, status, complete)

    async def open_loop(self, path: Callable[[], str], rate: float, seconds: float) -> list[Reply]:
        """`rate` requests a second, evenly, whether or not earlier ones have been answered."""
        began = perf_counter()
        tasks: list[asyncio.Task[Reply]] = []
        for number in range(round(rate * seconds)):
            if (late := began + number / rate - perf_counter()) > 0:
                await asyncio.sleep(late)
            tasks.append(self._loop.create_task(self.get(path())))
        return list(await asyncio.gather(*tasks))

    async def closed_loop(
        self, path: Callable[[], str], clients: int, seconds: float
    ) -> list[Reply]:
        """Each client sends its next request as soon as it has its response."""
        end = perf_counter() + seconds
        replies: list[Reply] = []

        async def client() -> None:
            while perf_counter() < end:
                replies.append(await self.get(path()))

        await asyncio.gather(*(client() for _ in range(clients)))
        return replies


class _Client(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bool]] | None = None

    def send(self, request: bytes) -> asyncio.Future[tuple[int, bool]]:
        self._received = b""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        top, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._answer is None or self._answer.done():
            return
        top = top.lower()
        if len(body) < int(top.partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            return
        if b"connection: close" in top:
            self.transport.close()
        self._answer.set_result((int(top[9:12]), b"x-complete: true" in top))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("no answer"))


@asynccontextmanager
async def cheap_upstream() -> AsyncIterator[str]:
    """The URL of an upstream that answers at once."""
    server = await asyncio.get_running_loop().create_server(_Answering, HOST, 0)
    yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
    server.close()


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        path = data.split(b" ", 2)[1]
        self._transport.write(
            _POSTS if b"/posts" in path else _TODOS if b"/todos" in path else _USER
        )


def _response(body: object) -> bytes:
    data = json.dumps(body).encode()
    return head(content_length=len(data)) + data


# As many as JSONPlaceholder has for each user.
_USER = _response({"id": 1, "name": "Marit Foss", "username": "marit", "email": "m@foss.example"})
_POSTS = _response(
    [{"userId": 1, "id": n, "title": "t" * 40, "body": "b" * 160} for n in range(1, 11)]
)
_TODOS = _response(
    [{"userId": 1, "id": n, "title": "t" * 40, "completed": False} for n in range(1, 21)]
)
