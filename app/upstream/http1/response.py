"""Responses from bytes: llhttp parses, and what one may cost is bounded here (RFC 9112).

llhttp is strict as it comes, and stays so: it refuses a length beside chunks, two lengths (equal
ones too, as RFC 9110 §8.6 lets us), obs-fold (RFC 9112 §5.2), space before a colon, bare CR and LF,
and NUL in a field. What it lets pass and we do not is in `feed` and in the two methods on heads.
"""

from typing import NamedTuple

import httptools

_MAX_HEAD = 65_536
"""Bytes until a head is complete, those of the 1xx before it included; and after it, bytes without
one of the body among them: trailers, and what frames chunks."""
_MAX_FIELDS = 256
_MAX_INTERIM = 8
"""1xx before the response."""
_PART = 64
"""Bytes that Python takes to hold a part of a body, which may be one byte itself."""

_NO_BODY = frozenset({204, 304})
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_TRANSFER_ENCODING = b"transfer-encoding"


class Head(NamedTuple):
    """The head of a final response; fields as they were sent, without the space around values."""

    status: int
    fields: list[tuple[bytes, bytes]]


class Response:
    """One response after another: `begin`, then `feed` until it is `complete` or has an `error`."""

    def __init__(self) -> None:
        self._llhttp = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Be ready for the next response."""
        self.head: Head | None = None
        self.until_eof = False
        """Whether only the connection's end ends the body (RFC 9112 §6.3)."""
        self.complete = False
        self.keep_alive = False
        """Once complete: whether another response may follow (RFC 9112 §9.3)."""
        self.error: str | None = None
        self.buffered = 0
        """Bytes of memory that the unread body takes."""
        self._parts: list[bytes] = []
        self._fields: list[tuple[bytes, bytes]] = []
        self._is_chunked = False
        self._interim = 0
        self._room = _MAX_HEAD
        self._started = False

    def feed(self, data: memoryview) -> None:
        """Take what has arrived: at least one byte. What follows the response is nobody's."""
        if not self._started:
            self._started = True
            if data[0] != ord("H"):  # llhttp skips empty lines, and knows RTSP and ICE
                self.error = "the response is not HTTP"
                return
        while len(data) > self._room:
            piece, data = data[: self._room], data[self._room :]
            self._parse(piece)
            if self.complete:
                self.keep_alive = False
            elif not self._room and self.error is None:
                self.error = "the head of the response is too large"
            if self.complete or self.error is not None:
                return
        self._parse(data)

    def end(self) -> None:
        """The connection has ended, and with it a body that is `until_eof`."""
        self.complete = True

    def take(self) -> bytes:
        """What has arrived of the body; nothing if nothing has."""
        if not self.buffered:
            return b""
        parts, self._parts, self.buffered = self._parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Take no more. The parser refers to us, so that neither would be freed without this."""
        del self._llhttp

    def _parse(self, data: memoryview) -> None:
        self._room -= len(data)
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserError as error:
            if self.complete:
                self.keep_alive = False
            else:
                self.error = _reason(error)

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Refused("a second response to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._fields) >= _MAX_FIELDS:
            raise _Refused("the response has too many fields")
        if len(name) == len(_TRANSFER_ENCODING) and name.lower() == _TRANSFER_ENCODING:
            # RFC 9112 §6.1: we have asked for no coding, and can undo none but this. llhttp takes a
            # tab after it for a part of its name.
            if self._is_chunked or value.rstrip(b" ").lower() != b"chunked":
                raise _Refused("the response has a transfer coding other than chunked")
            self._is_chunked = True
        self._fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._llhttp.get_status_code()
        version = self._llhttp.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _Refused("the response is not HTTP/1")
        if 100 <= status < 200:
            self._interim += 1
            if status == 101 or self._interim > _MAX_INTERIM:
                raise _Refused("the upstream switches protocols, or never comes to its response")
            return
        if self._is_chunked and version == "1.0":  # RFC 9112 §6.1: its framing is faulty
            raise _Refused("the response has chunks in HTTP/1.0")
        self.head = Head(status, self._fields)
        self.until_eof = (
            not self._llhttp.should_keep_alive()
            and status not in _NO_BODY
            and not any(name.lower() in _FRAMING for name, _ in self._fields)
        )
        self._fields = []  # those that follow are trailers, which nobody reads
        self._room = _MAX_HEAD

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self.buffered += len(body) + _PART
        self._room = _MAX_HEAD

    def on_message_complete(self) -> None:
        if self.head is None:  # of a 1xx
            self._fields, self._is_chunked = [], False
            return
        self.complete = True
        self.keep_alive = self._llhttp.should_keep_alive()


class _Refused(Exception):
    """What we do not take, though llhttp does."""


def _reason(error: httptools.HttpParserError) -> str:
    """Raises what is a bug of ours."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return "the response is not HTTP"
    refused = error.__context__  # raised in a callback
    assert refused is not None
    if not isinstance(refused, _Refused):
        raise refused
    return str(refused)
