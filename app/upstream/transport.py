"""An httpx transport on aiohttp's connections.

httpx's own pool loses slots for good when requests are cancelled while they wait for one
(encode/httpcore#1093), and deadlines, hedges and disconnects all cancel. It is also by far the
slowest part of a fan-out. aiohttp's connector has neither problem, and its parser, llhttp, refuses
what is not HTTP: two Content-Lengths, endless headers, garbage.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from yarl import URL

# Seconds; below the five after which Node, uvicorn and others close an idle connection, so that we
# never send on one that they are closing.
_KEEP_ALIVE = 4.0

# httpx's names for what aiohttp raises, the most specific first.
_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # refused, DNS, TLS
    (aiohttp.ClientSSLError, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),  # closed before the answer
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),  # closed within the answer
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),  # not HTTP
    (aiohttp.ClientError, httpx.ReadError),  # reset, and what else breaks a connection
    (OSError, httpx.ReadError),
)
_RAISED = tuple(raised for raised, _ in _ERRORS)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests without a body, each exactly once.

    It uses aiohttp's connector, request writer and parser, not its session, which would follow
    redirects, store cookies, and repeat a request whose connection broke: that would double the
    load on an upstream that is breaking down, without being counted.

    `connections` bounds the connections to all upstreams together. Timeouts are those of the
    request's `timeout` extension, in seconds: `pool`, `connect`, and `read` between two reads.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._connector: aiohttp.TCPConnector | None = None

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(
            limit=self._connections, keepalive_timeout=_KEEP_ALIVE
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._connector is not None:
            await self._connector.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self._connector is not None, "the transport is used inside `async with`"
        try:
            response = await _exchange(self._connector, request)
        except _RAISED as error:
            raise _to_httpx(error) from error
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
        )


async def _exchange(
    connector: aiohttp.TCPConnector, request: httpx.Request
) -> aiohttp.ClientResponse:
    """Send the request over a connection, and read the head of what comes back."""
    timeouts = request.extensions.get("timeout", {})
    outgoing = aiohttp.ClientRequest(
        request.method,
        URL(str(request.url), encoded=True),
        # aiohttp writes headers as UTF-8: other bytes cannot be passed on unchanged.
        headers=[
            (name.decode(), value.decode(errors="replace")) for name, value in request.headers.raw
        ],
        loop=asyncio.get_running_loop(),
    )
    try:
        timeout = _client_timeout(timeouts.get("pool"), timeouts.get("connect"))
        connection = await connector.connect(outgoing, traces=[], timeout=timeout)
        # Bytes that arrived while the connection was idle answer no request, and must not become
        # the answer to this one.
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await connector.connect(outgoing, traces=[], timeout=timeout)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError from error
    try:
        assert connection.protocol is not None
        connection.protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=timeouts.get("read"),
        )
        response = await outgoing.send(connection)
        try:
            await response.start(connection)
        except BaseException:
            response.close()
            raise
    except BaseException:
        connection.close()
        raise
    return response


class _Body(httpx.AsyncByteStream):
    """The body as it arrives. Closed early, it closes its connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._response.content.readany():
                yield chunk
        except _RAISED as error:
            raise _to_httpx(error) from error

    async def aclose(self) -> None:
        self._response.close()


@lru_cache
def _client_timeout(pool: float | None, connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool, sock_connect=connect)


def _to_httpx(error: Exception) -> httpx.TransportError:
    translated = next(to for raised, to in _ERRORS if isinstance(error, raised))
    return translated(str(error))
