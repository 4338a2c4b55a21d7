"""The body of a response, as it arrives and as it is read."""

import asyncio
from collections import deque

_BUFFERED = 65_536
"""Bytes that may wait to be read, before the upstream has to wait."""


class Body:
    __slots__ = ("_chunks", "_error", "_loop", "_paused", "_reader", "_size", "_transport", "ended")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.ended = False
        """Whether all of it has arrived."""

    def put(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > _BUFFERED and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """What has arrived can be read still; then `error` is raised."""
        self._error = error
        self._wake()

    async def read(self) -> bytes:
        """The next part; nothing at the end."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.ended:
                return b""
            self._reader = self._loop.create_future()
            await self._reader
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size <= _BUFFERED // 2 and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()
        return chunk

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
