"""One HTTP/1.1 connection to an upstream: one request at a time, and its response.

llhttp parses. Around it, what a response may cost us is bounded: its head, its 1xx, and what is
read of its body before somebody wants it (RFC 9112).
"""

import asyncio
from typing import NamedTuple, cast

import httptools
import httpx

from app.upstream.http1.body import Body

_MAX_HEAD = 65_536
"""Bytes of status line and fields, trailers included."""
_MAX_FIELDS = 256
_MAX_INFORMATIONAL = 8
"""1xx before the response; each is one more head to read."""

_NO_BODY = frozenset({204, 304})


class Head(NamedTuple):
    status: int
    fields: list[tuple[bytes, bytes]]


class StaleConnectionError(Exception):
    """It was used before, and ended before the first byte of this response (RFC 9112 §9.3.1)."""


class Connection(asyncio.Protocol):
    """Errors are httpx's: `RemoteProtocolError` for what is not HTTP or ends early, `ReadError` for
    a connection that breaks.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._exchanges = 0
        self._busy = False
        self._reset()
        self.reusable = True
        """Whether another request may follow: nothing of this one is left, nor anything unasked."""
        self.closed = False
        self.expires = 0.0
        self.idle_since = 0.0

    def _reset(self) -> None:
        self._fields: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._informational = 0
        self._started = False
        self._until_eof = False
        self._head: asyncio.Future[Head] | None = None
        self._body: Body | None = None

    async def request(self, data: bytes) -> Head:
        """Send a request, and wait for the head of its final response."""
        if self._transport is None or not self.reusable:
            raise StaleConnectionError
        if self._exchanges:
            self._reset()
        self._exchanges += 1
        self._busy = True
        self._head = self._loop.create_future()
        self._body = Body(self._loop, self._transport)
        self._transport.write(data)
        return await self._head

    async def read(self) -> bytes:
        """The next part of the body; nothing at its end."""
        assert self._body is not None
        return await self._body.read()

    @property
    def is_complete(self) -> bool:
        """Whether the response has come to its end."""
        return self._body is not None and self._body.ended

    def abort(self) -> None:
        """Close at once. A polite end of TLS would wait for a peer that hangs."""
        self.closed = True
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._busy:  # it answers nothing, and must not become the next request's answer
            self.abort()
            return
        self._started = True
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the upstream switched protocols")
        except httptools.HttpParserError as error:
            if not self._busy:
                self.abort()  # what follows the response is nobody's
            else:
                self._fail(_reason(error))

    def eof_received(self) -> None:
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.reusable = False
        self._transport = None
        if self._busy:
            self._end_early(exc)
        self._parser = None  # which refers to us

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if not self._busy:
            raise _Refused("a second response to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > _MAX_HEAD or len(self._fields) >= _MAX_FIELDS:
            raise _Refused("the head of the response is too large")
        if self._head is not None and not self._head.done():  # else it is a trailer
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                raise _Refused("there is no end to the informational responses")
            return
        self._until_eof = status not in _NO_BODY and not _has_framing(self._fields)
        if self._head is not None and not self._head.done():
            self._head.set_result(Head(status, self._fields))

    def on_body(self, body: bytes) -> None:
        assert self._body is not None
        self._body.put(body)

    def on_message_complete(self) -> None:
        if self._head is None or not self._head.done():  # of a 1xx: the response is still to come
            self._fields, self._head_size = [], 0
            return
        self._busy = False
        assert self._parser is not None
        assert self._body is not None
        if self._until_eof or not self._parser.should_keep_alive():
            self.reusable = False
        self._body.end()

    def _end_early(self, exc: Exception | None) -> None:
        if self._until_eof and exc is None:
            self.on_message_complete()
        elif self._exchanges > 1 and not self._started:
            self._end(StaleConnectionError())
        elif exc is not None:
            error = httpx.ReadError("the connection broke")
            error.__cause__ = exc
            self._end(error)
        else:
            self._fail("the connection ended before the response did")

    def _fail(self, reason: str) -> None:
        self._end(httpx.RemoteProtocolError(reason))

    def _end(self, error: Exception) -> None:
        self._busy = False
        self.abort()
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        if self._body is not None:
            self._body.fail(error)


class _Refused(Exception):
    """Raised within the parser, which wraps it."""


def _reason(error: httptools.HttpParserError) -> str:
    refused = error.__context__
    return str(refused) if isinstance(refused, _Refused) else "the response is not HTTP"


def _has_framing(fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether the response says where it ends (RFC 9112 §6.3); else it is the connection's end."""
    return any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in fields)
