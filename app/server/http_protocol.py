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
from app.server.idle_timeout import IdleTimeout
from app.server.middleware import request_id_of
from app.server.refusals import Refusal
from app.server.request_head import (
    MAX_FIELDS,
    MAX_HEAD,
    HeadSize,
    fault_of,
    is_another_version,
    keep_encoded_slashes,
)
from app.server.request_state import RequestState

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
    _weight = 1
    _received = b""

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override]  # any transport, for asyncio
    ) -> None:
        super().connection_made(transport)
        self._idle = IdleTimeout(self.loop, transport)
        self._head_size = HeadSize()
        # Writing is paused whenever something is unsent, and resumed when all of it is sent.
        transport.set_write_buffer_limits(0)
        if self.config.client_connections.add(self):
            self._idle.wait_for_request()
        else:
            self._refuse(self.config.refusals.all_connections_busy)
        another = partial(type(self), self.config, self.server_state, self.app_state, self.loop)
        self.config.acceptor.accept_more(self.loop, another)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.config.client_connections.remove(self)
        self._unset_keepalive_if_required()  # uvicorn does so for a polite end only
        self._idle.cancel()

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
            self._head_size.add(data)
            if self._head_size.bytes > MAX_HEAD:
                self._refuse(self.config.refusals.head_too_large)
                return
        self._received = data
        super().data_received(data)
        incomplete = self._head_size.bytes if self._in_head else not self._is_answering()
        if incomplete:
            self._idle.wait_for_request()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        RequestState(arrived=self.loop.time()).attach(cast("Scope", self.scope))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._idle.on_request()
        if self._is_answering():
            self.cycle.keep_alive = False
            return
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(refusal)
            return
        self.url = keep_encoded_slashes(self.config.without_prefix(self.url))
        self.config.client_connections.on_busy(self)
        super().on_headers_complete()

    def _refusal(self) -> Refusal | None:
        refusals = self.config.refusals
        if len(self.headers) > MAX_FIELDS:
            return refusals.head_too_large
        fault = fault_of(self.headers, self.parser.get_http_version())
        return None if fault is None else refusals.faults[fault]

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head_size.reset()
        self._idle.on_request()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.config.admission.on_end(self._weight)
        self._on_response_sent()
        if not self._in_head:  # answered, but its body is still to come, and thrown away
            self._idle.wait_for_request()

    def _on_response_sent(self) -> None:
        super().on_response_complete()
        self.scope = None  # type: ignore[assignment]  # as before the first: it is over
        self.config.client_connections.on_idle(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.config.client_connections.on_stuck(self)
        self._idle.wait_for_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.config.client_connections.on_reading(self)
        self._idle.on_read()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is not HTTP."""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            refusals = self.config.refusals
            other = is_another_version(self._received)
            self._refuse(refusals.faults["version"] if other else refusals.malformed)

    def _unsupported_upgrade_warning(self) -> None:
        """An offer that need not be taken (RFC 9110 §7.8); the parser reads nothing after it."""
        self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: object) -> None:
        begin = partial(self._begin, cycle, app)
        self._weight = weight_of(self.url)
        if self.url.startswith(_PROBES):
            begin()
        elif not self.config.admission.submit(begin, self._weight):
            self._shed(cycle)

    def _begin(self, cycle: RequestResponseCycle, app: object) -> None:
        if not cycle.disconnected:
            super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]  # uvicorn types it

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

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
