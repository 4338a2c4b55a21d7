"""`python -m chaos.crowd_clients URL`: clients that hold connections and want nothing, until stdin
ends; then it prints how many connections of each kind there were.

A process of its own, with descriptors of its own.
"""

import asyncio
import json
import random
import resource
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import cast
from urllib.parse import urlsplit

import uvloop

_OPENED_WITHIN = 8.0
"""Seconds, in which the crowd comes."""
_COME_AGAIN = 10.0
"""Seconds, after which those come again whose connection was closed."""
_RESETS = 500
"""A second."""
_SOURCES = 8
"""Addresses, each with the ephemeral ports of its own."""
_LINGER = struct.pack("ii", 1, 0)


class _Idle(asyncio.Protocol):
    """Connects, and does nothing."""

    request = b""

    def __init__(self, on_end: Callable[[type["_Idle"]], None]) -> None:
        self._on_end = on_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self.request)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end(type(self))


class _HalfAHead(_Idle):
    request = b"GET /v1/users/1/overview HTTP/1.1\r\nHost: a\r\nX-Half: "


class _UnreadStream(_Idle):
    """Requests events, and reads none of them."""

    _users = count(10_000_000)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        path = f"/v1/users/{next(self._users)}/overview"
        head = f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"
        self.request = head.encode()
        super().connection_made(transport)
        self.transport.pause_reading()


class _Reset(_Idle):
    """Ends its connection with a RST when it has its answer, as a proxy does with idle ones."""

    request = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"

    def data_received(self, data: bytes) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.transport.abort()


class _Crowd:
    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = address.hostname, address.port
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections: Counter[str] = Counter()

    def come(self, kind: type[_Idle], delay: float) -> None:
        self._loop.call_later(delay, self._start, kind)

    def _start(self, kind: type[_Idle]) -> None:
        task = self._loop.create_task(self._connect(kind))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, kind: type[_Idle]) -> None:
        self.connections[kind.__name__.lstrip("_")] += 1
        sock = socket.socket()
        sock.setblocking(False)
        if kind is _UnreadStream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.bind((f"127.0.0.{2 + self.connections.total() % _SOURCES}", 0))
        try:
            await self._loop.sock_connect(sock, self._address)
            await self._loop.create_connection(lambda: kind(self._on_end), sock=sock)
        except OSError as error:
            self.connections[f"{type(error).__name__}"] += 1
            sock.close()
            self._on_end(kind)

    def _on_end(self, kind: type[_Idle]) -> None:
        if kind is not _Reset:
            self.come(kind, _COME_AGAIN)


async def _main(url: str) -> None:
    crowd = _Crowd(url)
    for kind, number in ((_Idle, 10_000), (_HalfAHead, 1_000), (_UnreadStream, 1_000)):
        for _ in range(number):
            crowd.come(kind, random.uniform(0, _OPENED_WITHIN))
    for number in range(_RESETS * 60):
        crowd.come(_Reset, number / _RESETS)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps(crowd.connections))


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_main(sys.argv[1]))
