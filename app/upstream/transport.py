"""An httpx transport on our own HTTP/1.1 connections.

httpx's own pool loses slots for good when requests are cancelled while they wait for one
(encode/httpcore#1093), and deadlines, hedges and clients that leave all cancel. It is also by far
the slowest part of a fan-out.
"""

import asyncio
import ssl
from types import TracebackType
from typing import Self

import httpx

from app.upstream.http1.connect import Connector, Origin, Tls
from app.upstream.http1.connection import Connection, StaleConnectionError
from app.upstream.http1.pool import Pool
from app.upstream.http1.resolve import Resolver
from app.upstream.http1.response import Head

_PORTS = {"http": 80, "https": 443}


class Http1Transport(httpx.AsyncBaseTransport):
    """Carries each request once, and nothing that was not asked for.

    `connections` bounds all of them together; `tls` makes the context of all that are `https`,
    where the request's `tls` extension does not. Its `timeout` extension has the seconds to
    `connect`; its `on_reconnect` extension is called when the request goes out once more, because
    the server closed a kept connection just then. A request has no body.
    """

    def __init__(self, connections: int, tls: Tls = ssl.create_default_context) -> None:
        self._connections = connections
        self._tls = tls
        self._pool: Pool | None = None

    async def __aenter__(self) -> Self:
        resolver = Resolver(asyncio.get_running_loop())
        self._pool = Pool(self._connections, Connector(self._tls, resolver).open)
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
        port = url.port or _PORTS[url.scheme]
        origin = Origin(url.scheme, url.raw_host.decode(), port, request.extensions.get("tls"))
        try:
            connection, head = await _send(self._pool, origin, request)
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError("no connection") from error
        body = _Body(self._pool, origin, connection)
        return httpx.Response(head.status, headers=head.fields, stream=body)


async def _send(pool: Pool, origin: Origin, request: httpx.Request) -> tuple[Connection, Head]:
    data = _encoded(request)
    connect_timeout = request.extensions.get("timeout", {}).get("connect")
    connection = await pool.acquire(origin, connect_timeout)
    try:
        try:
            return connection, await connection.request(data)
        except StaleConnectionError:
            request.extensions.get("on_reconnect", _ignore)()
            connection = await pool.replace(connection, origin, connect_timeout)
            return connection, await connection.request(data)
    except BaseException:
        pool.discard(connection)
        raise


def _encoded(request: httpx.Request) -> bytes:
    """The request's bytes as they are given. Raises `ValueError` if they are more than one."""
    fields = request.headers.raw
    lines = b"\r\n".join([b": ".join(field) for field in fields])
    line = request.method.encode(), request.url.raw_path
    data = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (*line, lines)
    ends = len(data) - len(data.translate(None, b"\r\n\0"))
    if ends != 2 * (len(fields) + 2):
        raise ValueError("a CR, LF or NUL within a line of the request")
    return data


def _ignore() -> None:
    pass


class _Body(httpx.AsyncByteStream):
    """The body as it arrives. Closed early, it closes its connection."""

    def __init__(self, pool: Pool, origin: Origin, connection: Connection) -> None:
        self._pool = pool
        self._origin = origin
        self._connection: Connection | None = connection

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        assert self._connection is not None, "the body is closed"
        if chunk := await self._connection.read():
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.finish():
            self._pool.release(self._origin, connection)
        else:
            self._pool.discard(connection)
