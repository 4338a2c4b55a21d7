"""One connection without a socket: when it may be used again, how it ends, and what it holds."""

import asyncio
import gc
import ssl
import tracemalloc
import weakref

import httpx
import pytest

from app.upstream.http1.connection import StaleConnectionError
from tests.upstream.http1.wire import REQUEST, Answer, Stepped, Wire, every, exchange, run

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
UNTIL_EOF = b"HTTP/1.1 200 OK\r\n\r\nok"
MORE = {
    "a second response": OK.replace(b"ok", b"no"),
    "a part of one": b"HTTP/1.1 200 OK\r\nX-Splitting: ",
    "one byte of one": b"H",
    "garbage": b"\0\1\2",
    "more body": b"!",
}


def answered(loop: asyncio.AbstractEventLoop, stream: bytes = OK) -> Wire:
    """A connection after one exchange."""
    wire = Wire(loop)
    got, _ = run(wire, [stream], eof=False)
    assert (got.status, got.body, got.error) == (200, b"ok", None)
    return wire


# Keep-alive (RFC 9112 §9.3)


def test_one_request_after_another_is_answered_by_its_own_response(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = Wire(unused_loop)
    for n in range(20):
        body = b"%d" % n
        response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        assert wire.connection.reusable
        got, _ = run(wire, every(1 + n, response), eof=False)
        assert (got.body, got.error) == (body, None)
    assert wire.transport.sent == [REQUEST] * 20
    assert not wire.transport.aborted


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close",
        b"HTTP/1.1 200 OK\r\nConnection: Keep-Alive, CLOSE",
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close",
        b"HTTP/1.0 200 OK",
    ],
)
def test_a_connection_that_the_server_closes_is_not_reusable(
    head: bytes, unused_loop: asyncio.AbstractEventLoop
) -> None:
    wire = answered(unused_loop, head + b"\r\nContent-Length: 2\r\n\r\nok")
    assert not wire.connection.reusable


def test_a_keep_alive_connection_of_http_1_0_is_reusable(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n"
    assert answered(unused_loop, head + b"ok").connection.reusable


def test_a_connection_whose_trailer_says_close_is_not_reusable(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    chunks = b"2\r\nok\r\n0\r\nConnection: close\r\n\r\n"
    wire = answered(unused_loop, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    assert not wire.connection.reusable


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("same_read", [True, False])
def test_what_follows_a_response_is_nobodys_and_ends_the_connection(
    more: str, same_read: bool, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """Response splitting and desynchronisation: the response itself stands."""
    wire = Wire(unused_loop)
    parts = [OK + MORE[more]] if same_read else [OK, MORE[more]]
    got, _ = run(wire, parts, eof=False)
    assert (got.status, got.body, got.error) == (200, b"ok", None)
    assert not wire.connection.reusable


@pytest.mark.parametrize("more", MORE)
def test_what_arrives_before_a_request_is_no_answer_and_ends_the_connection(
    more: str, unused_loop: asyncio.AbstractEventLoop
) -> None:
    for wire, error in (
        (answered(unused_loop), StaleConnectionError),
        (Wire(unused_loop), httpx.RemoteProtocolError),
    ):
        wire.receive(MORE[more])
        assert wire.transport.aborted
        assert not wire.connection.reusable
        request = Stepped(wire.connection.request(REQUEST))
        assert isinstance(request.error, error)
        assert REQUEST not in wire.transport.sent[1:]


def test_an_idle_connection_that_is_half_closed_is_closed(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = answered(unused_loop)
    wire.connection.eof_received()
    assert wire.transport.aborted
    assert not wire.connection.reusable


# Ends


def test_a_reused_connection_that_ends_before_a_byte_is_stale(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    for reset in (None, ConnectionResetError(104, "reset")):
        wire = answered(unused_loop)
        request = Stepped(wire.connection.request(REQUEST))
        wire.lose(reset)
        request.step()
        assert isinstance(request.error, StaleConnectionError)


@pytest.mark.parametrize("reused", [True, False])
def test_a_connection_that_ends_after_a_byte_is_an_error(
    reused: bool, unused_loop: asyncio.AbstractEventLoop
) -> None:
    wire = answered(unused_loop) if reused else Wire(unused_loop)
    got, _ = run(wire, [b"H"])
    assert got.error == "RemoteProtocolError: the connection ended before the response did"


@pytest.mark.parametrize("received", [b"", OK[:9], OK[:-1]])
def test_a_connection_that_is_reset_is_a_read_error_with_its_cause(
    received: bytes, unused_loop: asyncio.AbstractEventLoop
) -> None:
    wire = Wire(unused_loop)
    answer = Answer()
    running = Stepped(exchange(wire.connection, answer))
    if received:
        wire.receive(received)
    reset = ConnectionResetError(104, "reset")
    wire.lose(reset)
    running.step()
    assert isinstance(running.error, httpx.ReadError)
    assert running.error.__cause__ is reset
    assert answer.body == received.partition(b"\r\n\r\n")[2]


def test_a_new_connection_that_has_ended_already_is_no_stale_one(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = Wire(unused_loop)
    wire.lose(None)
    request = Stepped(wire.connection.request(REQUEST))
    assert isinstance(request.error, httpx.RemoteProtocolError)


def test_a_body_until_eof_is_not_complete_when_we_close_the_connection(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = Wire(unused_loop)
    answer = Answer()
    running = Stepped(exchange(wire.connection, answer))
    wire.receive(UNTIL_EOF)
    wire.connection.abort()
    wire.lose(None)
    running.step()
    assert isinstance(running.error, httpx.ReadError)


class FakeTls:
    """The end of a TLS connection as OpenSSL shows it."""

    def __init__(self, *, closure: bool) -> None:
        self._closure = closure

    def read(self, _size: int) -> bytes:
        if self._closure:
            return b""
        raise ssl.SSLWantReadError


@pytest.mark.parametrize("closure", [True, False])
def test_over_tls_a_body_until_eof_is_complete_with_a_closure_alert_alone(
    closure: bool, unused_loop: asyncio.AbstractEventLoop
) -> None:
    """RFC 9112 §9.8: else an attacker could cut it."""
    got, _ = run(Wire(unused_loop, ssl_object=FakeTls(closure=closure)), [UNTIL_EOF])
    assert got.body == b"ok"
    assert (got.error is None) is closure


# Backpressure


def chunked(parts: int, size: int) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * parts + b"0\r\n\r\n"


@pytest.mark.parametrize(("parts", "size"), [(30, 100_000), (300, 1000), (100_000, 1)])
def test_an_unread_body_is_bounded_in_memory_and_arrives_whole_when_read(
    parts: int, size: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    wire = Wire(unused_loop)
    answer = Answer()
    stream = chunked(parts, size)
    request = Stepped(wire.connection.request(REQUEST))
    tracemalloc.start()
    try:
        unread = wire.receive(stream)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    request.step()
    assert request.done
    assert wire.transport.paused
    assert len(stream) - len(unread) <= 2 * 65_536
    assert held < 8 * 2**17 + len(unread)  # which is one more copy
    body = Stepped(exchange_body(wire, answer))
    while not body.done:
        unread = wire.receive(unread)
        body.step()
    assert body.error is None
    assert answer.body == b"x" * parts * size
    assert not wire.transport.paused
    assert run(wire, [OK], eof=False)[0].body == b"ok"


def test_the_unread_rest_of_a_complete_response_is_not_in_the_next(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = Wire(unused_loop)
    request = Stepped(wire.connection.request(REQUEST))
    wire.receive(OK.replace(b"ok", b"no"))
    request.step()
    assert wire.connection.finish()
    assert run(wire, [OK], eof=False)[0].body == b"ok"


async def exchange_body(wire: Wire, answer: Answer) -> None:
    while part := await wire.connection.read():
        answer.body += part


def test_over_tls_the_socket_is_paused_with_the_reader(
    unused_loop: asyncio.AbstractEventLoop,
) -> None:
    wire = Wire(unused_loop, ssl_object=FakeTls(closure=True))
    assert wire.transport.read_buffer_limits == (1, 0)


@pytest.mark.parametrize("sizehint", [-1, 0, 1, 65_536, 65_537, 82_000, 82_944, 82_945, 10**6])
def test_a_read_is_bounded_and_leaves_no_part_of_a_last_record(
    sizehint: int, unused_loop: asyncio.AbstractEventLoop
) -> None:
    size = len(Wire(unused_loop).connection.get_buffer(sizehint))
    assert size <= 65_536 + 17_408
    assert size >= sizehint or sizehint - size > 16_384


# Cancellation, and what is left


@pytest.mark.parametrize("received", [b"", OK[:9], OK[:-1]])
def test_a_request_that_is_cancelled_leaves_a_connection_that_can_be_closed(
    received: bytes, unused_loop: asyncio.AbstractEventLoop
) -> None:
    wire = Wire(unused_loop)
    running = Stepped(exchange(wire.connection, Answer()))
    if received:
        wire.receive(received)
        running.step()
    running.cancel()
    wire.connection.abort()
    assert wire.transport.aborted
    wire.lose(None)
    assert not wire.connection.reusable


ENDINGS = {
    "after a response": [OK],
    "within a head": [OK[:9]],
    "within a body": [OK[:-1]],
    "before a byte": [],
    "after garbage": [b"\0"],
    "after a refused head": [b"HTTP/2.0 200 OK\r\n\r\n"],
    "after a second response": [OK + OK],
}


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_closed_connection_is_freed_without_the_garbage_collector(
    ending: str, reset: bool, unused_loop: asyncio.AbstractEventLoop
) -> None:
    gc.collect()
    gc.disable()
    try:
        wire = Wire(unused_loop)
        running = Stepped(exchange(wire.connection, Answer()))
        for part in ENDINGS[ending]:
            wire.receive(part)
            running.step()
        wire.lose(ConnectionResetError(104, "reset") if reset else None)
        running.step()
        assert running.done
        connection = weakref.ref(wire.connection)
        response = weakref.ref(wire.connection._response)
        del wire, running
        assert connection() is None
        assert response() is None
    finally:
        gc.enable()
