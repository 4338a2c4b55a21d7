"""The pool: connections that are kept for the next request, and a bound on all of them."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from random import uniform

from app.upstream.http1.connect import Connector
from app.upstream.http1.connection import Connection

Origin = tuple[str, str, int]
"""Scheme, host and port."""

_KEEP_ALIVE = 4.0
"""Seconds that a connection may be idle: below the five after which Node, uvicorn and others drop
it, so that one which we still hold is not one that they are just closing."""
_MAX_AGE = 10.0
"""Seconds, for some a little less: not all are renewed at once. One in steady use would live for
ever, and never lead to where its name leads now."""


class Pool:
    """Connections by origin, the one that was used last first. `limit` bounds all of them."""

    def __init__(self, limit: int, tls: Callable[[], ssl.SSLContext]) -> None:
        self._limit = limit
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._connectors: dict[Origin, Connector] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._sweeping: asyncio.TimerHandle | None = None

    async def acquire(self, origin: Origin, connect_timeout: float | None) -> Connection:
        """A connection for one request: an idle one, or a new one.

        Raises `TimeoutError` when it cannot be opened in time, `OSError` when it cannot be opened.
        """
        now = self._loop.time()
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if _is_usable(connection, now):
                return connection
            self.discard(connection)
        return await self.open(origin, connect_timeout)

    async def open(self, origin: Origin, connect_timeout: float | None) -> Connection:
        """A new connection, as soon as there is room for one."""
        while len(self._open) + self._opening >= self._limit and not self._close_one_idle():
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()
                raise
        self._opening += 1
        try:
            async with asyncio.timeout(connect_timeout):
                connection = await self._connector(origin).open()
        except BaseException:
            self._opening -= 1
            self._wake_one()
            raise
        self._opening -= 1
        self._open.add(connection)
        connection.expires = self._loop.time() + _MAX_AGE * uniform(0.8, 1.0)  # noqa: S311
        return connection

    def release(self, origin: Origin, connection: Connection) -> None:
        """Keep the connection for the next request, if there may be one."""
        if not connection.reusable:
            self.discard(connection)
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_KEEP_ALIVE, self._sweep)
        if self._waiters:
            self._wake_one()

    def discard(self, connection: Connection) -> None:
        """Close it at once."""
        connection.abort()
        self._open.discard(connection)
        self._wake_one()

    def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in self._open:
            connection.abort()

    def _connector(self, origin: Origin) -> Connector:
        connector = self._connectors.get(origin)
        if connector is None:
            scheme, host, port = origin
            tls = self._tls() if scheme == "https" else None
            connector = self._connectors[origin] = Connector(host, port, tls)
        return connector

    def _close_one_idle(self) -> bool:
        """Make room: the connection that was idle for longest goes."""
        idle = [connections for connections in self._idle.values() if connections]
        if not idle:
            return False
        oldest = min(idle, key=lambda connections: connections[0].idle_since)
        connection = oldest.pop(0)
        connection.abort()
        self._open.discard(connection)
        return True

    def _sweep(self) -> None:
        """Close what was idle for too long; what the other end closed is noticed here too."""
        now = self._loop.time()
        for connections in self._idle.values():
            for connection in [one for one in connections if not _is_usable(one, now)]:
                connections.remove(connection)
                self.discard(connection)
        any_left = any(self._idle.values())
        self._sweeping = self._loop.call_later(1.0, self._sweep) if any_left else None

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _is_usable(connection: Connection, now: float) -> bool:
    return (
        connection.reusable
        and now - connection.idle_since < _KEEP_ALIVE
        and now < connection.expires
    )
