"""An httpx transport on our own HTTP/1.1 connections.

httpx's own pool loses slots for good when requests are cancelled while they wait for one
(encode/httpcore#1093), and deadlines, hedges and clients that leave all cancel. It is also by far
the slowest part of a fan-out.
"""

import ssl
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import httpx

from app.upstream.http1.connection import Connection, Head, StaleConnectionError
from app.upstream.http1.pool import Origin, Pool

_PORTS = {"http": 80, "https": 443}


class Http1Transport(httpx.AsyncBaseTransport):
    """Carries each request once, and nothing that was not asked for.

    `connections` bounds all of them together. The request's `timeout` extension has the seconds to
    `connect`; its `on_reconnect` extension is called when the request goes out once more, because
    the server closed a kept connection just then.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._pool: Pool | None = None

    async def __aenter__(self) -> Self:
        self._pool = Pool(self._connections, ssl.create_default_context)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._pool is not None:
            self._pool.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self._pool is not None, "the transport is used inside `async with`"
        url = request.url
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol("neither http nor https")
        origin = url.scheme, url.host, url.port or _PORTS[url.scheme]
        connect = request.extensions.get("timeout", {}).get("connect")
        try:
            connection = await self._pool.acquire(origin, connect)
            try:
                head = await self._head(connection, request)
            except StaleConnectionError:
                request.extensions.get("on_reconnect", _ignore)()
                connection = await self._pool.open(origin, connect)
                head = await self._head(connection, request)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError("no connection") from error
        body = _Body(self._pool, origin, connection)
        return httpx.Response(head.status, headers=head.fields, stream=body)

    async def _head(self, connection: Connection, request: httpx.Request) -> Head:
        assert self._pool is not None
        try:
            return await connection.request(_encoded(request))
        except BaseException:
            self._pool.discard(connection)
            raise


def _encoded(request: httpx.Request) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b" % field for field in request.headers.raw]
    return b"\r\n".join([*lines, b"", b""])


def _ignore() -> None:
    pass


class _Body(httpx.AsyncByteStream):
    """The body as it arrives. Closed early, it closes its connection."""

    def __init__(self, pool: Pool, origin: Origin, connection: Connection) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: Connection | None = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._connection is not None, "the body is closed"
        while chunk := await self._connection.read():
            yield chunk

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.is_complete:
            self._pool.release(self._origin, connection)
        else:
            self._pool.discard(connection)
