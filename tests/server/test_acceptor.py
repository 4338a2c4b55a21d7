"""Accepting all connections that wait in the kernel's queue."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from app.server import acceptor
from app.server.acceptor import Acceptor

pytestmark = pytest.mark.anyio


@contextmanager
def waiting(count: int) -> Iterator[socket.socket]:
    """A listener with so many clients that nobody has accepted."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for _ in range(count):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        yield listener


class Accepted(asyncio.Protocol):
    """Counts the connections, and closes them."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Accepted.count += 1
        transport.close()


async def accepted_by(listener: socket.socket, *, stopping: bool = False) -> int:
    Accepted.count = 0
    accepting = Acceptor(listener)
    if stopping:
        listener.close()
    accepting.accept_more(asyncio.get_running_loop(), Accepted)
    await asyncio.sleep(0.05)
    return Accepted.count


async def test_all_that_wait_are_accepted_and_not_one_in_each_turn_of_the_loop() -> None:
    with waiting(20) as listener:
        assert await accepted_by(listener) == 20


async def test_no_more_are_accepted_at_once_than_leave_the_others_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(acceptor, "_AT_ONCE", 5)
    with waiting(20) as listener:
        assert await accepted_by(listener) == 5


async def test_none_is_accepted_where_none_waits() -> None:
    with waiting(0) as listener:
        assert await accepted_by(listener) == 0


async def test_a_listener_that_is_closed_is_left_alone() -> None:
    with waiting(1) as listener:
        assert await accepted_by(listener, stopping=True) == 0
