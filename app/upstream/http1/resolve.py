"""Names become addresses: looked up anew for each connection, so that a new answer counts at once.

The loop's own lookups share a few threads (in uvloop two, whatever their number), and a name server
that hangs on two names would stop all of them. Here each name has a thread while it is looked up.
"""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any

Address = tuple[socket.AddressFamily, tuple[Any, ...]]
"""A family, and what a socket of it connects to."""
GetAddrInfo = Callable[..., Iterable[tuple[Any, Any, Any, Any, Any]]]
"""`socket.getaddrinfo`, which blocks."""


class Resolver:
    """Looks each name up at most once at a time: whoever asks meanwhile gets the same answer."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, getaddrinfo: GetAddrInfo = socket.getaddrinfo
    ) -> None:
        self._loop = loop
        self._getaddrinfo = getaddrinfo
        self._lookups: dict[str, asyncio.Future[list[Address]]] = {}

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Addresses in the order of RFC 6724. Raises `socket.gaierror`, an `OSError`."""
        with contextlib.suppress(socket.gaierror):  # an IP address needs no thread
            return _with_port(self._ask(host, socket.AI_NUMERICHOST), port)
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._loop.create_future()
            _start_thread(self._look_up, host, lookup)
            self._lookups[host] = lookup
        return _with_port(await asyncio.shield(lookup), port)

    def _look_up(self, host: str, lookup: asyncio.Future[list[Address]]) -> None:
        """In a thread of its own, which ends when the system gives up."""
        answer: list[Address] | Exception
        try:
            answer = self._ask(host)
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._on_answer, host, lookup, answer)

    def _on_answer(
        self,
        host: str,
        lookup: asyncio.Future[list[Address]],
        answer: list[Address] | Exception,
    ) -> None:
        del self._lookups[host]
        if isinstance(answer, Exception):
            lookup.set_exception(answer)
            lookup.exception()  # those who waited may all have left
        else:
            lookup.set_result(answer)

    def _ask(self, host: str, flags: int = 0) -> list[Address]:
        # As bytes: Python would encode the name anew, and not as browsers do (RFC 5891).
        infos = self._getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM, flags=flags)
        return list(dict.fromkeys((family, address) for family, _, _, _, address in infos))


def _start_thread(work: Callable[..., None], *args: object) -> None:
    try:
        threading.Thread(target=work, args=args, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread to look up a name") from error


def _with_port(addresses: list[Address], port: int) -> list[Address]:
    return [(family, (where[0], port, *where[2:])) for family, where in addresses]
