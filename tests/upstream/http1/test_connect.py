"""Connections to several addresses (RFC 8305), over real sockets on both kinds of loop."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import httpx
import pytest

from app.upstream.http1.connect import Connector, Origin, by_turns
from app.upstream.http1.connection import Connection
from app.upstream.http1.resolve import Address, Resolver
from tests.upstream.http1.sockets import (
    NOISE,
    Server,
    answering,
    client_context,
    hang,
    open_sockets,
    server_context,
    silent_address,
    sockets_become,
)
from tests.upstream.http1.wire import Answer, every, exchange

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


def connector(*addresses: str) -> Connector:
    """Every name has these addresses."""

    def getaddrinfo(host: bytes, port: None, type: int, flags: int) -> Any:
        if flags & socket.AI_NUMERICHOST:
            return socket.getaddrinfo(host, port, type=type, flags=flags)
        return [
            (socket.AF_INET6 if ":" in address else socket.AF_INET, type, 0, "", (address, 0))
            for address in addresses
        ]

    return Connector(client_context, Resolver(asyncio.get_running_loop(), getaddrinfo))


async def open_to(
    port: int, *addresses: str, host: str = "a.test", scheme: str = "http"
) -> Connection:
    return await connector(*addresses).open(Origin(scheme, host, port))


async def get(connection: Connection) -> bytes:
    answer = Answer()
    await exchange(connection, answer)
    return answer.body


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_to_a_name_with_one_address(scheme: str) -> None:
    tls = server_context() if scheme == "https" else None
    with Server(answering(OK), tls=tls) as server:
        connection = await open_to(server.port, "127.0.0.1", host="localhost", scheme=scheme)
        assert await get(connection) == b"ok"
        connection.abort()


async def test_the_name_in_tls_has_no_dot_at_its_end() -> None:
    """RFC 6066 §3."""
    names: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _sock, name, _context: names.append(name)
    with Server(answering(OK), tls=context) as server:
        connection = await open_to(server.port, "127.0.0.1", host="localhost.", scheme="https")
        assert await get(connection) == b"ok"
        connection.abort()
    assert names == ["localhost"]


async def test_happy_eyeballs_an_address_that_refuses_is_followed_by_the_next_at_once() -> None:
    with Server(answering(OK), host="127.0.0.3") as server:
        began = perf_counter()
        connection = await open_to(server.port, "127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert perf_counter() - began < 0.2 + NOISE
        assert await get(connection) == b"ok"
        connection.abort()


async def test_happy_eyeballs_an_address_that_is_late_is_followed_by_the_next_and_given_up() -> (
    None
):
    with (
        Server(hang, host="127.0.0.2") as server,
        silent_address("127.0.0.1", server.port),
        silent_address("127.0.0.3", server.port),
    ):
        before = open_sockets()
        began = perf_counter()
        connection = await open_to(server.port, "127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert 0.25 <= perf_counter() - began < 0.3 + NOISE
        await sockets_become(before + 2)  # both ends of this one
        connection.abort()


async def test_happy_eyeballs_two_that_connect_at_the_same_time_leave_one() -> None:
    with Server(hang, host="127.0.0.1") as one, Server(hang, host="127.0.0.2", port=one.port):
        before = open_sockets()
        for _ in range(20):
            connection = await open_to(one.port, "127.0.0.1", "127.0.0.2")
            connection.abort()
            await sockets_become(before)


async def test_happy_eyeballs_if_all_fail_the_first_failure_is_raised() -> None:
    before = open_sockets()
    with pytest.raises(ConnectionRefusedError):
        await open_to(1, "127.0.0.1", "::ffff:0:0", "255.255.255.255")
    assert open_sockets() == before


async def test_a_name_without_an_address_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no address"):
        await open_to(80)


def test_happy_eyeballs_takes_families_by_turns_beginning_with_the_preferred() -> None:
    """RFC 8305 §4."""

    def addresses(names: Sequence[str]) -> list[Address]:
        families = {"4": socket.AF_INET, "6": socket.AF_INET6}
        return [(families[name[0]], (name, 80)) for name in names]

    for given, expected in (
        ("6a 6b 6c 4a 4b", "6a 4a 6b 4b 6c"),
        ("4a 4b 6a", "4a 6a 4b"),
        ("4a 4b", "4a 4b"),
        ("6a", "6a"),
        ("", ""),
    ):
        assert by_turns(addresses(given.split())) == addresses(expected.split())


async def test_cancelled_in_happy_eyeballs_leaves_no_socket_and_no_task() -> None:
    with silent_address("127.0.0.1") as (_, port), silent_address("127.0.0.2", port):
        before, tasks = open_sockets(), asyncio.all_tasks()
        for delay in (0.0, 0.01, 0.3):
            opening = asyncio.create_task(open_to(port, "127.0.0.1", "127.0.0.2"))
            await asyncio.sleep(delay)
            opening.cancel()
            await asyncio.wait([opening])
            assert opening.cancelled()
            await sockets_become(before)
            assert asyncio.all_tasks() == tasks


@pytest.mark.parametrize("peer", ["no handshake", "no answer over TLS", "no answer"])
async def test_cancelled_at_any_moment_the_peer_sees_the_end_within_100_ms(peer: str) -> None:
    """The graceful end of TLS, of either loop, would wait for a peer that hangs for 30 seconds."""
    loop = asyncio.get_running_loop()
    errors: list[object] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    tls = server_context() if peer == "no answer over TLS" else None
    scheme = "http" if peer == "no answer" else "https"
    with Server(hang, tls=tls) as server:
        connect = connector("127.0.0.1").open
        before, tasks = open_sockets(), asyncio.all_tasks()

        async def use() -> None:
            connection = await connect(Origin(scheme, "localhost", server.port))
            try:
                await get(connection)
            finally:
                connection.abort()

        # Each step of the loop up to the first answer of the handshake, and moments after it.
        for steps in [*range(40), *(0.001 * n for n in range(1, 25))]:
            using = asyncio.create_task(use())
            if isinstance(steps, int):
                for _ in range(steps):
                    await asyncio.sleep(0)
            else:
                await asyncio.sleep(steps)
            using.cancel()
            await asyncio.wait([using])
            assert using.cancelled()
            await sockets_become(before)  # the server's end is among them
        assert asyncio.all_tasks() == tasks
    assert errors == []


@pytest.mark.parametrize("moment", ["after the handshake", "within a body"])
async def test_a_peer_that_does_not_even_read_holds_no_socket_of_ours(moment: str) -> None:
    release: list[bool] = []

    def serve(peer: Any) -> None:
        if moment == "within a body":
            peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        while not release:
            peer.sock.getpeername()

    with Server(serve, tls=server_context()) as server:
        before = open_sockets()
        connection = await open_to(server.port, "127.0.0.1", host="localhost", scheme="https")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await get(connection)
        connection.abort()
        await sockets_become(before + 1)  # the server's
        release.append(True)


# TLS, and its end


async def test_a_certificate_is_verified_by_name_and_authority() -> None:
    with Server(answering(OK), tls=server_context()) as server:
        for host, tls in (("elsewhere.test", client_context), ("localhost", None)):
            resolver = connector("127.0.0.1")._resolver
            wrong = Connector(tls or ssl.create_default_context, resolver)
            before = open_sockets()
            with pytest.raises(ssl.SSLCertVerificationError):
                await wrong.open(Origin("https", host, server.port))
            await sockets_become(before)


@pytest.mark.parametrize("farewell", ["closure alert", "FIN alone"])
@pytest.mark.parametrize("size", [10, 65_000, 69_000, 100_000, 2_000_000])
@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_all_of_a_body_arrives_over_tls_however_slowly_it_is_read(
    farewell: str, size: int, pause: float
) -> None:
    """When the socket ends, uvloop drops what it has not decrypted."""

    def serve(peer: Any) -> None:
        peer.read_head()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
        for record in every(10_000, head + b"x" * size):  # they do not end where our reads do
            peer.sock.sendall(record)
        if farewell == "closure alert":
            peer.sock.unwrap()
        else:
            peer.sock.shutdown(socket.SHUT_WR)

    with Server(serve, tls=server_context()) as server:
        connection = await open_to(server.port, "127.0.0.1", host="localhost", scheme="https")
        await connection.request(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = 0
        while part := await connection.read():
            received += len(part)
            await asyncio.sleep(pause)
        assert received == size
        connection.abort()


@pytest.mark.parametrize("complete", [True, False])
async def test_over_tls_a_body_until_eof_needs_a_closure_alert(complete: bool) -> None:
    """RFC 9112 §9.8."""

    def serve(peer: Any) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nok")
        if complete:
            peer.sock.unwrap()

    with Server(serve, tls=server_context()) as server:
        connection = await open_to(server.port, "127.0.0.1", host="localhost", scheme="https")
        answer = Answer()
        with contextlib.nullcontext() if complete else pytest.raises(httpx.RemoteProtocolError):
            await exchange(connection, answer)
        assert answer.body == b"ok"
        connection.abort()
