"""The route cache: for equal requests, the route is found and the parameters are read only once.

What FastAPI does for that is much of the cost of an answer whose sections are all stored
(docs/decisions.md has figures). It depends on the request's target and one header alone.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

Replay = Callable[[Request], Awaitable[Response]]
"""Answers another request that has the same route and the same parameters."""

_Key = tuple[str, str, bytes, tuple[bytes, ...]]

_MAX_ENTRIES = 2048
_MAX_KEY = 256
"""Bytes; longer requests are not cached. Both bound the memory that clients can make us use."""


class RouteCache:
    """Replays by request; the oldest is evicted when there are too many."""

    def __init__(self) -> None:
        self._replays: dict[_Key, Replay] = {}

    def get(self, scope: Scope) -> Replay | None:
        return self._replays.get(_key(scope))

    def add(self, scope: Scope, replay: Replay) -> None:
        _, path, query, timeouts = key = _key(scope)
        if len(path) + len(query) + sum(1 + len(one) for one in timeouts) > _MAX_KEY:
            return
        if len(self._replays) >= _MAX_ENTRIES:
            del self._replays[next(iter(self._replays))]
        self._replays[key] = replay


def _key(scope: Scope) -> _Key:
    # All values: which one of a repeated header counts is for FastAPI to decide.
    timeouts = tuple(value for name, value in scope["headers"] if name == b"x-request-timeout-ms")
    return scope["method"], scope["path"], scope["query_string"], timeouts


class RouteCacheMiddleware:
    """Answers a cached request without FastAPI; the routes fill the cache (`RouteCache.add`)."""

    def __init__(self, app: ASGIApp, cache: RouteCache) -> None:
        self._app = app
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        replay = self._cache.get(scope) if scope["type"] == "http" else None
        if replay is None:
            await self._app(scope, receive, send)
        else:
            response = await replay(Request(scope, receive))
            await response(scope, receive, send)
