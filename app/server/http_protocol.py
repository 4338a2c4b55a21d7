"""Uvicorn's HTTP/1.1, with bounds on what a client may send, and on how long it may do nothing.

The parser under it collects a head of any length, at a cost that grows with its square. Whatever
cannot become a request, or is one too many, is answered here, below the application.
"""

import asyncio
from functools import partial
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.server.config import ServerConfig, weight_of
from app.server.middleware import request_id_of
from app.server.refusals import Refusal
from app.server.request_state import RequestState

_MAX_HEAD = 65_536
"""Bytes. Envoy's default is 60 KiB; those of nginx and HAProxy are lower."""

IDLE_TIMEOUT = 75
"""Seconds without progress: an idle connection, a request that does not end, an answer not taken.

Longer than load balancers keep an idle connection (60 s is usual), so that they close it first and
never send a request on a connection that we are closing.
"""

_SHED_LINES = 100  # a second, of requests that are shed: all together have one anyway

_PROBES = (b"/livez", b"/readyz")
"""Never refused: an orchestrator would take a process for dead that only has too much to do."""


class HttpProtocol(HttpToolsProtocol):
    """One request at a time.

    Requests that are pipelined behind it are dropped, and the connection is closed after its
    answer, so the client has to send them again (RFC 9112 §9.3.2). Uvicorn would stop reading
    meanwhile, and so not see a disconnect.
    """

    config: ServerConfig

    _in_head = True
    _head_size = 0
    _weight = 1
    _request_timer: asyncio.TimerHandle | None = None
    _reader_timer: asyncio.TimerHandle | None = None

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # any transport, for asyncio
    ) -> None:
        super().connection_made(transport)
        # Writing is paused whenever something is unsent, and resumed when all of it is sent.
        transport.set_write_buffer_limits(0)
        if self.config.client_connections.add(self):
            self._time_request()
        else:
            self._refuse(self.config.refusals.all_connections_busy)
        another = partial(type(self), self.config, self.server_state, self.app_state, self.loop)
        self.config.acceptor.accept_more(self.loop, another)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.config.client_connections.remove(self)
        self._unset_keepalive_if_required()  # uvicorn does so for a polite end only
        for timer in (self._request_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        if self._is_answering():
            self.transport.abort()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._is_answering():
                self.cycle.keep_alive = False
                return
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD:
                self._refuse(self.config.refusals.head_too_large)
                return
        super().data_received(data)
        incomplete = self._head_size if self._in_head else not self._is_answering()
        if incomplete and self._request_timer is None:
            self._time_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        RequestState(arrived=self.loop.time()).attach(cast("Scope", self.scope))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self.url = self.config.without_prefix(self.url)
        self._stop_request_timer()
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.config.client_connections.on_busy(self)
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size = 0
        self._stop_request_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.config.admission.on_end(self._weight)
        self._on_response_sent()
        if not self._in_head:  # answered, but its body is still to come, and thrown away
            self._time_request()

    def _on_response_sent(self) -> None:
        super().on_response_complete()
        self.scope = None  # type: ignore[assignment]  # as before the first: it is over
        self.config.client_connections.on_idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.config.client_connections.on_stuck(self)
        self._wait_for_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self.config.client_connections.on_reading(self)
        if self._reader_timer is not None:
            self._reader_timer.cancel()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is not HTTP."""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self._refuse(self.config.refusals.malformed)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: object) -> None:
        begin = partial(self._begin, cycle, app)
        self._weight = weight_of(self.url)
        if self.url.startswith(_PROBES):
            begin()
        elif not self.config.admission.submit(begin, self._weight):
            self._shed(cycle)

    def _begin(self, cycle: RequestResponseCycle, app: object) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _time_request(self) -> None:
        """A request may take so long to come, a connection so long without one."""
        self._request_timer = self.loop.call_later(IDLE_TIMEOUT, self.transport.abort)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

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

    def _shed(self, cycle: RequestResponseCycle) -> None:
        """Refuse the request, and keep the connection: a new one would cost more."""
        with_line = self.config.admission.shed_lately <= _SHED_LINES
        self._refuse(self.config.refusals.shed, close=not cycle.keep_alive, line=with_line)
        cycle.response_complete = True
        self._on_response_sent()

    def _refuse(self, refusal: Refusal, *, close: bool = True, line: bool = True) -> None:
        request = self.scope or {}
        request_id = request_id_of(request.get("headers", ()))
        self.transport.write(refusal.response(request_id, close=close))
        if close:
            self.transport.close()
        if line:
            self.config.log.info(
                "request",
                method=request.get("method"),
                path=request.get("path"),
                status=refusal.status,
                ms=0.0,
                request_id=request_id.decode(),
                refused=refusal.slug,
            )
