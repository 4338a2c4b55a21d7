"""The one HTTP client: shared by every call, opened and closed with the service."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx

Transport = httpx.AsyncBaseTransport


class Client(httpx.AsyncClient):
    """An `httpx.AsyncClient` that sends the requests it is given, unchanged, and no others.

    No redirects (an upstream must not send us to another host), no cookies (one user's must not be
    sent with another's request), no proxies from the environment.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, trust_env=False, follow_redirects=False)
        self._sender = transport

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **_: Any
    ) -> httpx.Response:
        """Send `request` straight to the transport.

        httpx's authentication flow, redirect loop and cookie jar would only take time.
        """
        if self.is_closed:
            raise RuntimeError("the client is closed")
        response = await self._sender.handle_async_request(request)
        response.request = request
        if not stream:
            try:
                await response.aread()
            finally:
                await response.aclose()
        return response


def embedded(app: Callable[..., Awaitable[None]]) -> Transport:
    """A transport to an ASGI application in this process."""
    return httpx.ASGITransport(app)
