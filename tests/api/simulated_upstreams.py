"""Upstreams that have any user, whose latency and replies a test sets."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import httpx
import respx

from tests.fakes import now
from tests.in_process import POST, TODO, USER, Reply

Respond = Callable[[str, int], Awaitable[httpx.Response]]
"""The response of an upstream for a section of a user."""


def routed(respond: Respond) -> respx.MockRouter:
    """Upstreams that respond for any user."""

    async def on_request(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/users/"):
            return await respond("user", int(path.removeprefix("/users/")))
        (user,) = parse_qs(request.url.query.decode())["userId"]
        return await respond(path.removeprefix("/"), int(user))

    router = respx.MockRouter(assert_all_called=False)
    router.route().mock(side_effect=on_request)
    return router


def ok_response(section: str, user: int, cache_control: str = "no-store") -> httpx.Response:
    """Good data of any user."""
    data = {
        "user": USER | {"id": user},
        "posts": [POST | {"userId": user}],
        "todos": [TODO | {"userId": user}] * 2,
    }
    return httpx.Response(200, json=data[section], headers={"Cache-Control": cache_control})


Behaviour = float | tuple[float, Reply] | None
"""After so many seconds a section is ok, or replies otherwise; with None, it never replies."""


class SimulatedUpstreams:
    """Each section behaves as set: `posts` for every user, `posts_7` for one. 0 s by default."""

    def __init__(self, cache_control: str = "no-store", /, **behaviours: Behaviour) -> None:
        self._cache_control = cache_control
        self._behaviours = behaviours
        self.router = routed(self._respond)
        self.requests = list[tuple[float, str, int]]()
        """Instant, section and user of each."""
        self.cancelled = list[tuple[float, str, int]]()
        self.in_flight = 0
        self.max_in_flight = 0
        self.max_tasks = 0

    async def _respond(self, section: str, user: int) -> httpx.Response:
        self.requests.append((round(now(), 3), section, user))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.max_tasks = max(self.max_tasks, len(asyncio.all_tasks()))
        try:
            return await self._behave(section, user)
        except asyncio.CancelledError:
            self.cancelled.append((round(now(), 3), section, user))
            raise
        finally:
            self.in_flight -= 1

    async def _behave(self, section: str, user: int) -> httpx.Response:
        behaviour = self._behaviours.get(f"{section}_{user}", self._behaviours.get(section, 0.0))
        if behaviour is None:
            await asyncio.Event().wait()
            raise AssertionError
        seconds, reply = behaviour if isinstance(behaviour, tuple) else (behaviour, None)
        await asyncio.sleep(seconds)
        if isinstance(reply, Exception):
            raise reply.with_traceback(None)
        return ok_response(section, user, self._cache_control) if reply is None else reply


def simulated(**behaviours: Behaviour) -> respx.MockRouter:
    """Upstreams whose sections behave as set."""
    return SimulatedUpstreams(**behaviours).router
