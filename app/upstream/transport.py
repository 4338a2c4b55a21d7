"""An httpx transport on aiohttp's connections.

httpx's own pool loses slots for good when requests are cancelled while they wait for one
(encode/httpcore#1093), and deadlines, hedges and clients that hang up all cancel. It is also by
far the slowest part of a fan-out. aiohttp's connector has neither trouble, and llhttp under it
refuses what is not HTTP: two lengths, endless headers, garbage.
"""

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
    """Carries requests without a body; redirects, cookies, proxies and decoding are not its work.

    `connections` bounds all of them together. Timeouts are those of the request's `timeout`
    extension, in seconds: `pool`, `connect`, and `read` between two reads.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=_KEEP_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
            middlewares=(_once,),
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
        if self._session is not None:
            await self._session.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert self._session is not None, "the transport is used inside `async with`"
        wait = request.extensions.get("timeout", {})
        try:
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[
                    (k.decode("latin-1"), v.decode("latin-1")) for k, v in request.headers.raw
                ],
                allow_redirects=False,
                timeout=_timeouts(wait.get("pool"), wait.get("connect"), wait.get("read")),
            )
        except _RAISED as error:
            raise _translated(error) from error
        return httpx.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response),
        )


class _Body(httpx.AsyncByteStream):
    """The body as it comes over the wire. Closed early, it takes its connection along."""

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


async def _once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once: on its own account aiohttp repeats one whose connection broke.

    That would double the load on an upstream that is breaking down, and nobody could count it.
    Translated here, the error is not one that it repeats.
    """
    try:
        return await handler(request)
    except _RAISED as error:
        raise _translated(error) from error


@lru_cache
def _timeouts(
    pool: float | None, connect: float | None, read: float | None
) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=pool, sock_connect=connect, sock_read=read)


def _translated(error: Exception) -> httpx.TransportError:
    ours = next(ours for theirs, ours in _ERRORS if isinstance(error, theirs))
    return ours(str(error))
