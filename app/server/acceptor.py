"""Accepting connections: all that wait, not one in each turn of the loop.

libuv accepts one connection each time that it looks (since 1.45), and a loop that is busy looks
rarely: new clients would wait for seconds in the kernel's queue, neither answered nor refused.
"""

import asyncio
import socket
from collections.abc import Callable

_AT_ONCE = 256
"""Connections, so that those which are open already have their turn."""


class Acceptor:
    """Accepts from `listener` beside the loop, which does so too."""

    def __init__(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._opening: set[asyncio.Task[object]] = set()

    def accept_more(
        self, loop: asyncio.AbstractEventLoop, protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """The loop has accepted one: accept what else is waiting."""
        while len(self._opening) < _AT_ONCE:
            try:
                sock, _ = self._listener.accept()
            except OSError:  # there is none, or no descriptor for it, or we are stopping
                return
            opening = loop.create_task(loop.connect_accepted_socket(protocol, sock))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
