"""Opening connections: addresses become sockets, sockets become TLS.

Several addresses are tried as RFC 8305 ("Happy Eyeballs") says: by turns of their families, the
next one as soon as one fails or is late.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from itertools import chain, zip_longest
from typing import NamedTuple

from app.upstream.http1.connection import Connection, ReadBuffer
from app.upstream.http1.resolve import Address, Resolver

Tls = Callable[[], ssl.SSLContext]
"""Makes the context of a connection."""


class Origin(NamedTuple):
    """Where a connection goes, and as whom: those of equal origins are shared."""

    scheme: str
    host: str
    port: int
    tls: Tls | None = None
    """In place of the connector's own."""


_ATTEMPT_DELAY = 0.25
"""Seconds until another address is tried beside one that does not answer (RFC 8305 §8)."""


class Connector:
    """Opens connections to any origin; `tls` makes the context of those that have none."""

    def __init__(self, tls: Tls, resolver: Resolver) -> None:
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._resolver = resolver
        self._loop = asyncio.get_running_loop()
        self._buffer = ReadBuffer()

    async def open(self, origin: Origin) -> Connection:
        """A connection that is ready for a request. Raises `OSError`, `ssl.SSLError` among them."""
        addresses = await self._resolver.resolve(origin.host, origin.port)
        sock = await _first_of(self._loop, addresses)
        connection = Connection(self._loop, self._buffer)
        try:
            if origin.scheme == "https":
                await self._start_tls(connection, sock, origin)
            else:
                await self._loop.create_connection(lambda: connection, sock=sock)
        except BaseException:
            connection.abort()
            raise
        return connection

    async def _start_tls(self, connection: Connection, sock: socket.socket, origin: Origin) -> None:
        plain, _ = await self._loop.create_connection(asyncio.Protocol, sock=sock)
        name = origin.host.removesuffix(".")  # RFC 6066 §3
        try:
            context = origin.tls() if origin.tls is not None else self._tls_context()
            transport = await self._loop.start_tls(plain, connection, context, server_hostname=name)
        except BaseException:
            # Both loops would go on with the handshake, or end it politely, and wait for a peer
            # that hangs.
            plain.abort()
            raise
        assert transport is not None
        connection.connection_made(transport)

    def _tls_context(self) -> ssl.SSLContext:
        """Made once: it takes some ten milliseconds to read all certificates."""
        if self._context is None:
            self._context = self._tls()
        return self._context


async def _first_of(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    """The first socket that connects. If none does, raises what the first to fail has raised."""
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    waiting = by_turns(addresses)
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(loop.create_task(_connected(loop, waiting.pop(0))))
            done, _ = await asyncio.wait(
                attempts,
                timeout=_ATTEMPT_DELAY if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                attempts.remove(attempt)
                try:
                    return attempt.result()
                except OSError as error:
                    failures.append(error)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)
        if attempts:
            await asyncio.wait(attempts)
    raise failures[0] if failures else OSError("the name has no address")


def by_turns(addresses: list[Address]) -> list[Address]:
    """Their families by turns, beginning with that of the first (RFC 8305 §4)."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    others = [address for address in addresses if address[0] != addresses[0][0]]
    turns = chain.from_iterable(zip_longest(first, others))
    return [address for address in turns if address is not None]


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """What was not needed: it may have connected before it was cancelled."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
