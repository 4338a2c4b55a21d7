"""Equal requests are solved once.

What FastAPI does to turn a request into arguments and to find its route costs more than all the
rest of an answer whose sections are stored already (benchmarks/README.md has the profile), and
depends on nothing but the request's target and one header.
"""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

Replay = Callable[[Request], Awaitable[Response]]
"""Answers another request that differs from the first one in nothing that was solved."""

_Key = tuple[str, str, bytes, tuple[bytes, ...]]

_MOST = 2048
_LONGEST = 256
"""Requests that are remembered, and bytes of one that is worth it: together they bound the memory
that clients can make us spend."""


class RouteCache:
    """Repeats by request; the oldest goes when there are too many."""

    def __init__(self) -> None:
        self._replays: dict[_Key, Replay] = {}

    def get(self, scope: Scope) -> Replay | None:
        return self._replays.get(_key(scope))

    def add(self, scope: Scope, replay: Replay) -> None:
        _, path, query, timeouts = key = _key(scope)
        if len(path) + len(query) + sum(1 + len(one) for one in timeouts) > _LONGEST:
            return
        if len(self._replays) >= _MOST:
            del self._replays[next(iter(self._replays))]
        self._replays[key] = replay


def _key(scope: Scope) -> _Key:
    # All of them: a header that is repeated makes another request.
    timeouts = tuple(value for name, value in scope["headers"] if name == b"x-request-timeout-ms")
    return scope["method"], scope["path"], scope["query_string"], timeouts


class RouteCacheMiddleware:
    """Answers what is remembered, past FastAPI; the endpoints say what is (`RouteCache.add`)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            replay = scope["app"].state.service.route_cache.get(scope)
            if replay is not None:
                response = await replay(Request(scope, receive))
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)
