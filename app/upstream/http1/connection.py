"""One HTTP/1.1 connection to an upstream: one request at a time, and its response."""

import asyncio
import ssl
from typing import Any, cast

import httpx

from app.upstream.http1.response import Head, Response

_BUFFERED = 65_536
"""Bytes of a body that may wait to be read, before the upstream has to wait."""
_READ = 65_536
_TLS_READ = _READ + 17_408
"""One TLS record more (RFC 8446 §5.2)."""


class StaleConnectionError(Exception):
    """It ended after a response, and before the first byte of the next (RFC 9112 §9.3.1)."""


class ReadBuffer:
    """What all connections of one event loop read into: it tells of a read before the next."""

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(_TLS_READ))
        self.usual = self.whole[:_READ]


class Connection(asyncio.BufferedProtocol):
    """Errors are httpx's: `RemoteProtocolError` for what is not HTTP or ends early, `ReadError` for
    a connection that breaks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer: ReadBuffer) -> None:
        self._loop = loop
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._response = Response()
        self._busy = False
        self._unanswered = False
        """Whether a response has come to its end here, and no byte has arrived since."""
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        # Not the error itself: its traceback would keep us alive.
        self._failure: tuple[type[Exception], str, Exception | None] | None = None
        self.reusable = False
        """Whether a request may be sent: nothing is left of the last one, and nothing else came."""
        self.expires = 0.0
        self.idle_until = 0.0

    async def request(self, data: bytes) -> Head:
        """Send a request, and wait for the head of its final response."""
        if not self.reusable:
            raise self._error()
        assert self._transport is not None
        response = self._response
        response.begin()
        self._busy = True
        self.reusable = False
        self._transport.write(data)
        while response.head is None:
            if self._failure is not None:
                raise self._error()
            self._waiter = self._loop.create_future()
            await self._waiter
        return response.head

    async def read(self) -> bytes:
        """What has arrived of the body, as soon as something has; nothing at its end."""
        response = self._response
        while not response.buffered:
            if response.complete:
                return b""
            if self._failure is not None:
                raise self._error()
            self._waiter = self._loop.create_future()
            await self._waiter
        if self._paused:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        return response.take()

    def finish(self) -> bool:
        """Whether the response has come to its end. What is unread of it is dropped."""
        self._response.take()
        return self._response.complete

    def abort(self) -> None:
        """Close at once. A polite end of TLS would wait for a peer that hangs."""
        self._fail(httpx.ReadError, "the connection was closed here")

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.reusable = self._failure is None  # over TLS, something may have arrived already
        if transport.get_extra_info("ssl_object") is not None:
            # While we pause, the socket must not be read either: at its end, uvloop drops what is
            # not decrypted yet.
            cast("Any", transport).set_read_buffer_limits(high=1, low=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Over TLS, `sizehint` bytes have arrived. If what we leave were but the rest of a record,
        # nothing would keep uvloop from reading on.
        is_last_record = _READ < sizehint <= _TLS_READ
        return self._buffer.whole if is_last_record else self._buffer.usual

    def buffer_updated(self, nbytes: int) -> None:
        if not self._busy:  # it answers nothing, and must not become the next request's answer
            self._end(None)
            return
        self._unanswered = False
        response = self._response
        response.feed(self._buffer.whole[:nbytes])
        if response.complete:
            self._complete()
        elif response.error is not None:
            self._fail(httpx.RemoteProtocolError, response.error)
        elif response.buffered > _BUFFERED and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if self._busy and self._response.until_eof and self._is_closure():
            self._response.end()
            self._complete()
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _complete(self) -> None:
        self._busy = False
        self._unanswered = True
        self.reusable = self._response.keep_alive

    def _is_closure(self) -> bool:
        """RFC 9112 §9.8: over TLS, an end counts if it was said. asyncio does not tell."""
        assert self._transport is not None
        tls = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or not tls.read(1)
        except ssl.SSLError:
            return False

    def _end(self, exc: Exception | None) -> None:
        if self._unanswered:
            self._fail(StaleConnectionError, "the connection ended while it was idle")
        elif exc is not None:
            self._fail(httpx.ReadError, "the connection broke", exc)
        else:
            self._fail(httpx.RemoteProtocolError, "the connection ended before the response did")

    def _fail(self, kind: type[Exception], reason: str, cause: Exception | None = None) -> None:
        self._busy = False
        self.reusable = False
        if self._failure is None:
            self._failure = kind, reason, cause
            self._response.close()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._wake()

    def _error(self) -> Exception:
        assert self._failure is not None, "there was no reason to use it"
        kind, reason, cause = self._failure
        error = kind(reason)
        error.__cause__ = cause
        return error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
