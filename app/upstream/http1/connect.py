"""Opening connections: names become addresses, addresses become sockets, sockets become TLS.

Several addresses are tried as RFC 8305 ("Happy Eyeballs") says: by turns of their families, the
next one as soon as one fails or is late.
"""

import asyncio
import contextlib
import socket
import ssl
from itertools import chain, zip_longest

from app.upstream.http1.connection import Connection

Address = tuple[socket.AddressFamily, tuple[object, ...]]

_STAGGER = 0.25
"""Seconds until another address is tried beside one that does not answer (RFC 8305 §8)."""


class Connector:
    """Opens connections to one origin.

    Its name is looked up anew for each of them, but not twice at the same time: a name server that
    hangs must not take all the threads that look up names.
    """

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._lookup: asyncio.Task[list[Address]] | None = None

    async def open(self) -> Connection:
        """A connection that is ready for a request. Raises `OSError`, `ssl.SSLError` among them."""
        opened = await _first_of(self._loop, await self._addresses())
        try:
            _, connection = await self._loop.create_connection(
                lambda: Connection(self._loop),
                sock=opened,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except BaseException:
            # Given up within a handshake, the loop would wait for a peer that hangs.
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
            raise
        return connection

    async def _addresses(self) -> list[Address]:
        if self._lookup is None:
            self._lookup = asyncio.create_task(self._look_up())
            self._lookup.add_done_callback(self._on_looked_up)
        return await asyncio.shield(self._lookup)

    async def _look_up(self) -> list[Address]:
        infos = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in infos))
        first = [address for address in addresses if address[0] == addresses[0][0]]
        others = [address for address in addresses if address[0] != addresses[0][0]]
        turns = chain.from_iterable(zip_longest(first, others))
        return [address for address in turns if address is not None]

    def _on_looked_up(self, lookup: asyncio.Task[list[Address]]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # whoever waited for it has raised it


async def _first_of(loop: asyncio.AbstractEventLoop, addresses: list[Address]) -> socket.socket:
    """The first socket that connects; the others are closed."""
    if len(addresses) == 1:
        return await _connected(loop, addresses[0])
    failure: OSError = OSError("the name has no address")
    attempts: set[asyncio.Task[socket.socket]] = set()
    waiting = list(reversed(addresses))
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connected(loop, waiting.pop())))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=_STAGGER if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    attempts |= done - {attempt}
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failure = error
        raise failure
    finally:
        for attempt in attempts:
            attempt.cancel()
        for result in await asyncio.gather(*attempts, return_exceptions=True):
            if isinstance(result, socket.socket):
                result.close()


async def _connected(loop: asyncio.AbstractEventLoop, address: Address) -> socket.socket:
    family, where = address
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(opened, where)
    except BaseException:
        opened.close()
        raise
    return opened
