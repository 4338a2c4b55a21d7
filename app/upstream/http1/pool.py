"""The pool: connections that are kept for the next request, and a bound on all of them."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.upstream.http1.connect import Origin
from app.upstream.http1.connection import Connection

_KEEP_ALIVE = 4.0
"""Seconds that a connection may be idle: below the five after which Node, uvicorn and others drop
it, so that one which we still hold is not one that they are just closing."""
_MAX_AGE = 10.0
"""Seconds, for some a little less: not all are renewed at once. One in steady use would live for
ever, and never lead to where its name leads now."""
_SWEEP_DELAY = 0.05
"""Seconds: those that have been idle for long enough at about the same time go together."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    origin: Origin
    granted: asyncio.Future[Connection | None]
    """A connection, or None: room for a new one."""


class Pool:
    """Connections by origin, the one that was used last first. `limit` bounds all of them.

    Who finds no room waits, first come, first served: there is no room, and none is idle, while
    somebody waits.
    """

    def __init__(
        self,
        limit: int,
        connect: Callable[[Origin], Awaitable[Connection]],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._room = limit
        self._connect = connect
        self._uniform = uniform
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._waiters: deque[_Waiter] = deque()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False

    async def acquire(self, origin: Origin, connect_timeout: float | None) -> Connection:
        """A connection for one request: an idle one, or a new one.

        Raises `TimeoutError` when it cannot be opened in time, `OSError` when it cannot be opened.
        """
        if self._closed:
            raise RuntimeError("the pool is closed")
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if _is_usable(connection, self._loop.time()):
                return connection
            self.discard(connection)
        if not self._take_room() and (granted := await self._wait(origin)) is not None:
            return granted
        return await self._open_one(origin, connect_timeout)

    async def replace(
        self, connection: Connection, origin: Origin, connect_timeout: float | None
    ) -> Connection:
        """A new connection in the place of one that has ended. Raises as `acquire` does."""
        self._open.discard(connection)
        return await self._open_one(origin, connect_timeout)

    def release(self, origin: Origin, connection: Connection) -> None:
        """Keep the connection for the next request, if there may be one."""
        now = self._loop.time()
        if not connection.reusable or now >= connection.expires:
            self.discard(connection)
            return
        if self._waiters and (waiter := self._next_waiter()) is not None:
            if waiter.origin != origin:
                self._close_one(connection)
            waiter.granted.set_result(connection if waiter.origin == origin else None)
            return
        connection.idle_until = min(now + _KEEP_ALIVE, connection.expires)
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweep_at(connection.idle_until)

    def discard(self, connection: Connection) -> None:
        """Close it at once; more than once does no harm."""
        if self._close_one(connection):
            self._give_room()

    def close(self) -> None:
        """Close all connections. Nobody gets one any more."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._idle.clear()
        for connection in self._open:
            connection.abort()
        self._open.clear()
        while (waiter := self._next_waiter()) is not None:
            waiter.granted.set_exception(RuntimeError("the pool is closed"))

    async def _wait(self, origin: Origin) -> Connection | None:
        waiter = _Waiter(origin, self._loop.create_future())
        self._waiters.append(waiter)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if not waiter.granted.cancelled():  # it was granted just then
                connection = waiter.granted.result()
                if connection is not None:
                    self.release(origin, connection)
                else:
                    self._give_room()
            raise

    async def _open_one(self, origin: Origin, connect_timeout: float | None) -> Connection:
        """A new connection in the room that was taken for it."""
        try:
            async with asyncio.timeout(connect_timeout):
                connection = await self._connect(origin)
        except BaseException:
            self._give_room()
            raise
        if self._closed:
            connection.abort()
            raise RuntimeError("the pool is closed")
        self._open.add(connection)
        connection.expires = self._loop.time() + _MAX_AGE * self._uniform(0.8, 1.0)
        return connection

    def _take_room(self) -> bool:
        if self._room > 0:
            self._room -= 1
            return True
        idle = [connections for connections in self._idle.values() if connections]
        if not idle:
            return False
        oldest = min(idle, key=lambda connections: connections[0].idle_until)
        return self._close_one(oldest.pop(0))

    def _give_room(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.granted.set_result(None)
        else:
            self._room += 1

    def _next_waiter(self) -> _Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.granted.done():  # else it was cancelled
                return waiter
        return None

    def _close_one(self, connection: Connection) -> bool:
        """Whether it was open till now, and leaves room for another."""
        connection.abort()
        was_open = connection in self._open
        self._open.discard(connection)
        return was_open

    def _sweep_at(self, due: float) -> None:
        self._sweeping = self._loop.call_at(due + _SWEEP_DELAY, self._sweep)

    def _sweep(self) -> None:
        """Close what was idle for too long; what the other end has closed is noticed here too."""
        now = self._loop.time()
        self._sweeping = None
        for origin, connections in self._idle.items():
            kept = [one for one in connections if _is_usable(one, now)]
            gone = set(connections).difference(kept)
            self._idle[origin] = kept
            for connection in gone:
                self.discard(connection)
        due = [one.idle_until for kept in self._idle.values() for one in kept]
        if due:
            self._sweep_at(min(due))


def _is_usable(connection: Connection, now: float) -> bool:
    return connection.reusable and now < connection.idle_until
