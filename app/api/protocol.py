"""Uvicorn's HTTP/1.1, with a bound on what a client may send before it has asked for anything.

The parser under it collects a head of any length, at a cost that grows with its square. Whatever
cannot become a request is answered here, below the application, and is a problem all the same.
"""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.envelope import SAFE
from app.api.problems import problem

# Twice what most proxies let through.
_LARGEST_HEAD = 65_536


class Protocol(HttpToolsProtocol):
    """One request at a time.

    What is pipelined behind it is dropped, and the connection closed after its answer, for the
    client to ask again (RFC 9112 §9.3.2). Uvicorn would stop reading meanwhile, and so not see
    that the client has gone.
    """

    _in_head = True
    _head = 0  # bytes of it so far

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._answering():
                self.cycle.keep_alive = False
                return
            self._head += len(data)
            if self._head > _LARGEST_HEAD:
                self._refuse("head_too_large", "the request's line and headers are too long")
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._answering():
            self.cycle.keep_alive = False
        else:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._head = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's word for what is not HTTP, `msg`, names nothing of the request."""
        if self._answering():
            self.cycle.keep_alive = False
        else:
            self._refuse("malformed_request", msg)

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, slug: str, detail: str) -> None:
        response = problem(slug, detail, headers={"Connection": "close"})
        status = HTTPStatus(response.status_code)
        head = [b"HTTP/1.1 %d %b" % (status, status.phrase.encode())]
        head += [b"%b: %b" % header for header in (*response.raw_headers, *SAFE)]
        self.transport.write(b"\r\n".join(head) + b"\r\n\r\n" + bytes(response.body))
        self.transport.close()
