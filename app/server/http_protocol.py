"""Uvicorn's HTTP/1.1, with bounds on what a client may send, and on how long it may do nothing.

The parser under it collects a head of any length, at a cost that grows with its square. What is no
valid request never reaches the application: it is answered here, with a problem.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.problems.responses import problem
from app.server.security_headers import SECURITY_HEADERS

_MAX_HEAD = 65_536
"""Bytes. Envoy's default is 60 KiB; those of nginx and HAProxy are lower."""

IDLE_TIMEOUT = 75
"""Seconds without progress: an idle connection, a head that does not end, an answer not taken.

Longer than load balancers keep an idle connection (60 s is usual), so that they close it first and
never send a request on a connection that we are closing.
"""


class HttpProtocol(HttpToolsProtocol):
    """One request at a time.

    Requests that are pipelined behind it are dropped, and the connection is closed after its
    answer, so the client has to send them again (RFC 9112 §9.3.2). Uvicorn would stop reading
    meanwhile, and so not see a disconnect.
    """

    _in_head = True
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # any transport, for asyncio
    ) -> None:
        super().connection_made(transport)
        # Writing is paused whenever something is unsent, and resumed when all of it is sent.
        transport.set_write_buffer_limits(0)
        self._head_timer = self.loop.call_later(IDLE_TIMEOUT, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._head_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._is_answering():
                self.cycle.keep_alive = False
                return
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD:
                self._refuse("head_too_large", "the request's line and headers are too long")
                return
        super().data_received(data)
        if self._in_head and self._head_size and self._head_timer is None:
            self._head_timer = self.loop.call_later(IDLE_TIMEOUT, self.transport.abort)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._wait_for_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is not HTTP; its `msg` repeats nothing of the request."""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self._refuse("malformed_request", msg)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_reader(self, unsent: int) -> None:
        """TCP alone would wait for ever for a client that is connected and reads nothing."""
        self._reader_timer = self.loop.call_later(IDLE_TIMEOUT, self._check_reader, unsent)

    def _check_reader(self, unsent_before: int) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent < unsent_before:
            self._wait_for_reader(unsent)
        else:
            self.transport.abort()

    def _refuse(self, slug: str, detail: str) -> None:
        response = problem(slug, detail, headers={"Connection": "close"})
        status = HTTPStatus(response.status_code)
        head = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
        head += [b"%b: %b" % header for header in (*response.raw_headers, *SECURITY_HEADERS)]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()
