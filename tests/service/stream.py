"""A streaming HTTP client on a raw socket: it reads one chunk at a time, on demand."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self
from urllib.parse import urlsplit

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"

_TIMEOUT = 2.0  # seconds for a chunk that should come at once


@dataclass(frozen=True)
class Chunk:
    """One HTTP chunk as the service wrote it, and when it arrived (by `perf_counter`)."""

    data: bytes
    received_at: float

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Names and data of the events; comments are left out."""
        blocks = [
            [line for line in block.split("\n") if not line.startswith("retry: ")]
            for block in self.data.decode().split("\n\n")
            if block
        ]
        return [
            (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
            for lines in blocks
            if not lines[0].startswith(":")
        ]

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.data.splitlines()]


class Stream:
    """A GET whose response is read chunk by chunk; leaving the `async with` block disconnects.

    On entering the block the head has been read. With a small `window` (the receive buffer, in
    bytes), data that the client does not read stays with the service. Times are of `perf_counter`.
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
            await self.get(self._path)
        except BaseException:
            self._socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    async def get(self, path: str) -> None:
        """Send a request on this connection, and read the head of its response."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in self._headers.items()]
        request = "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()
        await asyncio.get_running_loop().sock_sendall(self._socket, request)
        self.sent_at = perf_counter()
        status, *lines = (await self._read_until(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(status.split(" ")[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """The remaining chunks, up to the terminating one of length zero."""
        while size := int(await self._read_until(b"\r\n"), 16):
            yield await self._read_chunk(size)
        await self._read_until(b"\r\n")

    async def next_chunk(self) -> Chunk:
        """The next chunk; a `TimeoutError` if it does not come soon."""
        async with asyncio.timeout(_TIMEOUT):
            return await self._read_chunk(int(await self._read_until(b"\r\n"), 16))

    def disconnect(self, *, reset: bool = False) -> float:
        """Close the connection, and return when.

        The service gets a RST instead of a FIN with `reset`, or if data was left unread.
        """
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        disconnected_at = perf_counter()
        self._socket.close()
        return disconnected_at

    def half_close(self) -> None:
        """Send a FIN, and keep the connection open for reading."""
        self._socket.shutdown(socket.SHUT_WR)

    async def _read_chunk(self, size: int) -> Chunk:
        assert size, "the response has ended"
        while len(self._received) < size + 2:
            await self._receive()
        data = bytes(self._received[:size])
        del self._received[: size + 2]
        return Chunk(data, perf_counter())

    async def _read_until(self, end: bytes) -> bytes:
        while end not in self._received:
            await self._receive()
        data, _, self._received = self._received.partition(end)
        return bytes(data)

    async def _receive(self) -> None:
        received = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        if not received:
            raise ConnectionError("the response broke off")
        self._received += received
