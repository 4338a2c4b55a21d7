"""A connection without a socket: bytes in, and what became of them."""

import asyncio
from collections.abc import Coroutine, Iterable
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from app.upstream.http1.connection import Connection, ReadBuffer

T = TypeVar("T")

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """What a loop's transport lets a connection see; `extra` is what `get_extra_info` knows."""

    def __init__(self, **extra: object) -> None:
        super().__init__(extra)
        self.sent: list[bytes] = []
        self.paused = False
        self.aborted = False
        self.read_buffer_limits: tuple[int, int] | None = None

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False

    def set_read_buffer_limits(self, high: int, low: int) -> None:
        self.read_buffer_limits = high, low

    def abort(self) -> None:
        self.aborted = True


class Wire:
    """A connection, and what a loop does with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **extra: object) -> None:
        self.transport = FakeTransport(**extra)
        self.connection = Connection(loop, ReadBuffer())
        self.connection.connection_made(self.transport)
        self.lost = False

    def receive(self, data: bytes) -> bytes:
        """What is left of `data`, as the connection reads no further."""
        while data and not (self.transport.paused or self.transport.aborted or self.lost):
            space = self.connection.get_buffer(-1)
            size = min(len(space), len(data))
            space[:size] = data[:size]
            self.connection.buffer_updated(size)
            data = data[size:]
        return data

    def receive_eof(self) -> None:
        if not (self.transport.aborted or self.lost):
            self.connection.eof_received()
        self.lose(None)

    def lose(self, exc: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.connection.connection_lost(exc)


class Answer:
    """What a caller gets, as far as it gets: filled while `exchange` runs."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = b""


async def exchange(connection: Connection, answer: Answer) -> None:
    answer.status, answer.fields = await connection.request(REQUEST)
    while part := await connection.read():
        answer.body += part


class Stepped(Generic[T]):
    """A coroutine that runs where the test says so, without a loop."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._waits_for: asyncio.Future[Any] | None = None
        self.done = False
        self.error: Exception | None = None
        self.result: T | None = None
        self.step()

    def step(self) -> None:
        """Run on, until it waits for what has not happened."""
        while not self.done and (self._waits_for is None or self._waits_for.done()):
            try:
                self._waits_for = self._work.send(None)
            except StopIteration as stop:
                self.done, self.result = True, stop.value
            except Exception as error:  # noqa: BLE001 - it is the test's to judge
                trace = error.__traceback__ and error.__traceback__.tb_next
                self.done, self.error = True, error.with_traceback(trace)  # our frame has `self`

    def cancel(self) -> None:
        """As a task that is cancelled: its coroutine ends where it waits."""
        self.done = True
        try:
            self._work.throw(asyncio.CancelledError())
        except asyncio.CancelledError:
            return
        raise AssertionError("the cancellation was swallowed")


class Outcome(NamedTuple):
    status: int | None
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    error: str | None
    """Its type, and what it says."""


def run(wire: Wire, pieces: Iterable[bytes], *, eof: bool = True) -> tuple[Outcome, bytes]:
    """One exchange whose response comes in `pieces`; and what it left unread."""
    answer = Answer()
    running = Stepped(exchange(wire.connection, answer))
    unread = b""
    for piece in pieces:
        unread = wire.receive(unread + piece)
        running.step()
    while unread and not running.done:
        before, unread = unread, wire.receive(unread)
        running.step()
        assert unread != before, "nobody reads, and nobody resumes"
    if eof:
        wire.receive_eof()
        running.step()
        assert running.done, "the connection has ended, and its reader waits"
    error = f"{type(running.error).__name__}: {running.error}" if running.error else None
    return Outcome(answer.status, tuple(answer.fields), answer.body, error), unread


def pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """`stream` cut at these places."""
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(stream)}), len(stream)]
    return [stream[a:b] for a, b in pairwise(places)]


def every(size: int, stream: bytes) -> list[bytes]:
    """`stream` in pieces of this size."""
    return [stream[at : at + size] for at in range(0, len(stream), size)]
