"""An httpx transport on aiohttp's connections.

httpx's own pool loses slots for good when requests are cancelled while they wait for one
(encode/httpcore#1093), and deadlines, hedges and clients that hang up all cancel. It is also by
far the slowest part of a fan-out. aiohttp's connector has neither trouble, and llhttp under it
refuses what is not HTTP: two lengths, endless headers, garbage.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from types import TracebackType
from typing import Self

import aiohttp
import httpx
from yarl import URL

# Below the five seconds after which Node, uvicorn and others drop an idle connection: one that
# we still hold must not be one that they are just closing.
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
_RAISED = tuple(theirs for theirs, _ in _ERRORS)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Carries requests without a body, each once, and nothing that was not asked for.

    It stands on aiohttp's connector, request writer and parser, not on its session, which would
    follow redirects, keep cookies, and on its own account repeat a request whose connection broke:
    that would double the load on an upstream that is breaking down, and nobody could count it.

    `connections` bounds all of them together. Timeouts are those of the request's `timeout`
    extension, in seconds: `pool`, `connect`, and `read` between two reads.
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
            raise _translated(error) from error
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
        )


async def _exchange(
    connector: aiohttp.TCPConnector, request: httpx.Request
) -> aiohttp.ClientResponse:
    """Send the request over a connection, and read the head of what comes back."""
    wait = request.extensions.get("timeout", {})
    sent = aiohttp.ClientRequest(
        request.method,
        URL(str(request.url), encoded=True),
        # aiohttp encodes UTF-8: a header that is not UTF-8 cannot be passed on as it came.
        headers=[(k.decode(), v.decode(errors="replace")) for k, v in request.headers.raw],
        loop=asyncio.get_running_loop(),
    )
    try:
        timeouts = _timeouts(wait.get("pool"), wait.get("connect"))
        connection = await connector.connect(sent, traces=[], timeout=timeouts)
        # Bytes that arrived while the connection was idle answer no request, and must not become
        # the answer to this one.
        while connection.protocol is not None and connection.protocol.should_close:
            connection.close()
            connection = await connector.connect(sent, traces=[], timeout=timeouts)
    except TimeoutError as error:
        raise aiohttp.ConnectionTimeoutError from error
    try:
        assert connection.protocol is not None
        connection.protocol.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=wait.get("read"),
        )
        response = await sent.send(connection)
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
            raise _translated(error) from error

    async def aclose(self) -> None:
        self._response.close()


@lru_cache
def _timeouts(pool: float | None, connect: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool, sock_connect=connect)


def _translated(error: Exception) -> httpx.TransportError:
    ours = next(ours for theirs, ours in _ERRORS if isinstance(error, theirs))
    return ours(str(error))
