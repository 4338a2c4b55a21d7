"""A route that solves the parameters of equal requests once.

What FastAPI does to turn a request into arguments costs as much as all the rest of an answer whose
sections are stored already (benchmarks/README.md has the profile), and depends on nothing but the
request's target and one header.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

Repeat = Callable[[Request], Awaitable[Response]]
"""Answers another request that differs from the first one in nothing that was solved."""

_Key = tuple[str, bytes, tuple[bytes, ...]]

_MOST = 2048
_LONGEST = 256
"""Requests that are remembered, and bytes of one that is worth it: together they bound the memory
that clients can make us spend."""


class Remembered:
    """Repeats by request; the oldest goes when there are too many."""

    def __init__(self) -> None:
        self._repeats: dict[_Key, Repeat] = {}

    def find(self, request: Request) -> Repeat | None:
        return self._repeats.get(_key(request))

    def add(self, request: Request, repeat: Repeat) -> None:
        path, query, timeouts = key = _key(request)
        if len(path) + len(query) + sum(1 + len(one) for one in timeouts) > _LONGEST:
            return
        if len(self._repeats) >= _MOST:
            del self._repeats[next(iter(self._repeats))]
        self._repeats[key] = repeat


def _key(request: Request) -> _Key:
    scope = request.scope
    # All of them: a header that is repeated makes another request.
    timeouts = tuple(value for name, value in scope["headers"] if name == b"x-request-timeout-ms")
    return scope["path"], scope["query_string"], timeouts


class RememberingRoute(APIRoute):
    """An endpoint on it calls `Remembered.add` once it knows what was asked."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        solve = super().get_route_handler()

        async def handle(request: Request) -> Response:
            repeat = request.app.state.service.remembered.find(request)
            return await (solve(request) if repeat is None else repeat(request))

        return handle
