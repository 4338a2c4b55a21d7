"""The transport over real sockets, plain and over TLS, on both kinds of loop."""

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import httpx
import pytest

from app.upstream.http1 import connection as connections
from app.upstream.http1.connection import Connection
from app.upstream.transport import Http1Transport
from tests.upstream.http1.sockets import (
    NOISE,
    Peer,
    Serve,
    Server,
    answering,
    client_context,
    hang,
    open_sockets,
    server_context,
    silent_address,
    sockets_become,
)

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


@asynccontextmanager
async def a_transport(limit: int = 10) -> AsyncIterator[Http1Transport]:
    """At its end, no socket, no task and no complaint of the loop may be left."""
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    tasks = asyncio.all_tasks()
    async with Http1Transport(limit, client_context) as transport:
        yield transport
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == tasks
    assert complaints == []


def a_server(serve: Serve, scheme: str) -> Server:
    return Server(serve, tls=server_context() if scheme == "https" else None)


def a_request(scheme: str, port: int, path: str = "/", **extensions: object) -> httpx.Request:
    return httpx.Request(
        "GET",
        f"{scheme}://localhost:{port}{path}",
        headers=[(b"Host", b"localhost")],
        extensions=extensions,
    )


async def get(transport: Http1Transport, request: httpx.Request) -> bytes:
    response = await transport.handle_async_request(request)
    try:
        return await response.aread()
    finally:
        await response.aclose()


async def end_of(server: Server) -> float:
    """When the next client closed its connection, as the server saw it."""
    return await asyncio.to_thread(server.ended.get, timeout=2)


# What goes out


async def test_a_request_goes_out_as_it_is_given_and_without_a_body(scheme: str) -> None:
    with a_server(answering(OK), scheme) as server:
        async with a_transport() as transport:
            url = httpx.URL(f"{scheme}://localhost:{server.port}/a%2Fb/%C3%A9?x=%20&y=a+b")
            fields = [(b"hOst", b"a"), (b"X", b"\xff  b"), (b"X", b""), (b"x", b"2")]
            await get(transport, httpx.Request("GET", url, headers=fields))
    assert server.requests == [
        b"GET /a%2Fb/%C3%A9?x=%20&y=a+b HTTP/1.1\r\nhOst: a\r\nX: \xff  b\r\nX: \r\nx: 2\r\n\r\n"
    ]


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\0", b"\r\n\r\n"])
@pytest.mark.parametrize("where", ["name", "value", "path", "method"])
async def test_a_request_that_would_be_two_is_not_sent(where: str, end: bytes) -> None:
    """CWE-113."""
    bad = b"a" + end + b"b"
    request = a_request("http", 1)
    match where:
        case "name":
            request.headers = httpx.Headers([(bad, b"x")])
        case "value":
            request.headers = httpx.Headers([(b"X", bad)])
        case "path":
            request.url = httpx.URL("http://localhost:1")
            request.url._uri_reference = request.url._uri_reference._replace(
                path="/" + bad.decode()
            )
        case _:
            request.method = bad.decode()
    async with a_transport() as transport:
        with pytest.raises(ValueError, match="CR, LF or NUL"):
            await transport.handle_async_request(request)


@pytest.mark.parametrize("url", ["ftp://localhost/", "ws://localhost/", "//localhost/", "/path"])
async def test_other_schemes_are_unsupported(url: str) -> None:
    async with a_transport() as transport:
        with pytest.raises(httpx.UnsupportedProtocol):
            await transport.handle_async_request(httpx.Request("GET", url))


# What comes back


async def test_a_response_has_its_status_its_fields_and_its_body_as_it_came(scheme: str) -> None:
    """Decompression is not done here."""
    head = b"HTTP/1.1 404 X\r\nContent-Encoding: gzip\r\nEtag:  a \r\nContent-Length: 3\r\n\r\n"
    with a_server(answering(head + b"abc"), scheme) as server:
        async with a_transport() as transport:
            response = await transport.handle_async_request(a_request(scheme, server.port))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            assert [part async for part in response.stream] == [b"abc"]
            await response.stream.aclose()
    assert response.status_code == 404
    assert response.headers.raw == [
        *((b"Content-Encoding", b"gzip"), (b"Etag", b"a"), (b"Content-Length", b"3"))
    ]


async def test_a_body_that_is_closed_early_closes_its_connection(scheme: str) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        peer.wait_for_end()

    with a_server(serve, scheme) as server:
        async with a_transport(limit=1) as transport:
            for _ in range(3):
                response = await transport.handle_async_request(a_request(scheme, server.port))
                await response.aclose()
        assert server.connections == 3


async def test_a_refusal_is_read_no_further_and_keeps_its_connection() -> None:
    """A body that has arrived whole is dropped, and is in no other answer."""
    body = b"x" * 1000
    no = b"HTTP/1.1 500 X\r\nContent-Length: 1000\r\n\r\n" + body
    with Server(answering(no, OK)) as server:
        async with a_transport() as transport:
            response = await transport.handle_async_request(a_request("http", server.port))
            await response.aclose()
            assert await get(transport, a_request("http", server.port)) == b"ok"
        assert server.connections == 1


# Errors, each with its cause


async def error_of(transport: Http1Transport, request: httpx.Request) -> Exception:
    try:
        await get(transport, request)
    except Exception as error:  # noqa: BLE001 - the caller judges
        return error
    raise AssertionError("there was no error")


async def test_a_port_that_refuses_is_a_connect_error(scheme: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with a_transport() as transport:
            error = await error_of(transport, a_request(scheme, bound.getsockname()[1]))
    assert type(error) is httpx.ConnectError
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_name_that_is_none_is_a_connect_error(scheme: str) -> None:
    async with a_transport() as transport:
        error = await error_of(transport, httpx.Request("GET", f"{scheme}://{'a' * 64}.test/"))
    assert type(error) is httpx.ConnectError
    assert isinstance(error.__cause__, socket.gaierror)


async def test_a_connection_that_does_not_come_in_time_is_a_connect_timeout(scheme: str) -> None:
    with silent_address("127.0.0.1") as (_, port):
        sockets = open_sockets()
        async with a_transport(limit=1) as transport:
            for _ in range(2):
                began = perf_counter()
                request = a_request(scheme, port, timeout={"connect": 0.1})
                error = await error_of(transport, request)
                assert type(error) is httpx.ConnectTimeout
                assert isinstance(error.__cause__, TimeoutError)
                assert 0.09 <= perf_counter() - began < 0.1 + NOISE
        await sockets_become(sockets)


async def test_a_handshake_that_does_not_end_in_time_is_a_connect_timeout() -> None:
    with Server(hang) as server:
        async with a_transport(limit=1) as transport:
            for _ in range(2):
                began = perf_counter()
                request = a_request("https", server.port, timeout={"connect": 0.1})
                error = await error_of(transport, request)
                assert type(error) is httpx.ConnectTimeout
                assert await end_of(server) - began < 0.2 + NOISE


async def test_a_certificate_that_does_not_hold_is_a_connect_error() -> None:
    with Server(answering(OK), tls=server_context()) as server:
        async with Http1Transport(1) as transport:  # it does not know the authority of the tests
            error = await error_of(transport, a_request("https", server.port))
    assert type(error) is httpx.ConnectError
    assert isinstance(error.__cause__, ssl.SSLCertVerificationError)


def no_tls(peer: Peer) -> None:
    peer.sock.recv(65_536)
    peer.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    peer.wait_for_end()


HANDSHAKES: dict[str, tuple[Serve, type[OSError]]] = {
    "no TLS": (no_tls, ssl.SSLError),
    "a closed connection": (lambda peer: peer.sock.recv(65_536), ConnectionResetError),
}


@pytest.mark.parametrize("case", HANDSHAKES)
async def test_a_handshake_that_fails_is_a_connect_error(case: str) -> None:
    serve, cause = HANDSHAKES[case]
    with Server(serve) as server:
        async with a_transport() as transport:
            error = await error_of(transport, a_request("https", server.port))
    assert type(error) is httpx.ConnectError
    assert isinstance(error.__cause__, cause)


async def test_a_context_that_cannot_be_made_is_a_connect_error() -> None:
    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile="/does/not/exist")

    sockets = open_sockets()
    with Server(hang) as server:
        async with Http1Transport(1, context) as transport:
            error = await error_of(transport, a_request("https", server.port))
            assert type(error) is httpx.ConnectError
            assert isinstance(error.__cause__, FileNotFoundError)
            await end_of(server)
    await sockets_become(sockets)


def resetting(data: bytes) -> Serve:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(data)
        if data:
            peer.sock.recv(1)  # until the client says that it has read it
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    return serve


async def test_a_reset_before_an_answer_is_a_read_error() -> None:
    with Server(resetting(b"")) as server:
        async with a_transport() as transport:
            error = await error_of(transport, a_request("http", server.port))
    assert type(error) is httpx.ReadError
    assert isinstance(error.__cause__, ConnectionResetError)


async def test_a_reset_within_a_body_is_a_read_error_after_what_has_arrived() -> None:
    with Server(resetting(OK[:-1])) as server:
        async with a_transport() as transport:
            response = await transport.handle_async_request(a_request("http", server.port))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            parts = aiter(response.stream)
            assert await anext(parts) == b"o"
            sending = response.stream._connection._transport  # type: ignore[attr-defined]
            sending.write(b"!")
            with pytest.raises(httpx.ReadError) as raised:
                await anext(parts)
            assert isinstance(raised.value.__cause__, ConnectionResetError)
            await response.aclose()


PROTOCOL_ERRORS = {
    "a connection that closes at once": b"",
    "a part of a head": OK[:20],
    "a part of a body": OK[:-1],
    "garbage": b"\0\1\2\3",
    "another protocol": b"SSH-2.0-OpenSSH_9.7\r\n",
    "a head without an end": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000,
}


@pytest.mark.parametrize("case", PROTOCOL_ERRORS)
async def test_what_is_not_http_or_ends_early_is_a_remote_protocol_error(
    case: str, scheme: str
) -> None:
    with a_server(answering(PROTOCOL_ERRORS[case]), scheme) as server:
        async with a_transport() as transport:
            error = await error_of(transport, a_request(scheme, server.port))
    assert type(error) is httpx.RemoteProtocolError
    assert len(server.requests) == 1


async def test_a_closed_transport_sends_nothing() -> None:
    async with a_transport() as transport:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        await transport.handle_async_request(a_request("http", 1))


# Reuse, and once more


async def test_a_connection_is_reused(scheme: str) -> None:
    with a_server(answering(*[OK] * 5), scheme) as server:
        async with a_transport() as transport:
            for _ in range(5):
                assert await get(transport, a_request(scheme, server.port)) == b"ok"
        assert server.connections == 1


def once_then(end: Callable[[Peer], object], second: bytes = OK) -> Serve:
    """The first connection answers once, and ends like that; the others answer `second`."""

    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(OK if peer.number == 1 else second)
        if peer.number == 1:
            end(peer)

    return serve


async def test_a_request_on_a_stale_connection_goes_out_once_more(scheme: str) -> None:
    with a_server(once_then(Peer.read_head), scheme) as server:
        async with a_transport(limit=1) as transport:
            reconnects: list[int] = []
            for n in range(2):
                request = a_request(scheme, server.port, f"/{n}")
                request.extensions["on_reconnect"] = lambda n=n: reconnects.append(n)
                assert await get(transport, request) == b"ok"
        assert [head.split()[1] for head in server.requests] == [b"/0", b"/1", b"/1"]
        assert reconnects == [1]


async def test_a_request_goes_out_once_more_and_not_twice(scheme: str) -> None:
    with a_server(once_then(Peer.read_head, second=b""), scheme) as server:
        async with a_transport(limit=1) as transport:
            assert await get(transport, a_request(scheme, server.port)) == b"ok"
            error = await error_of(transport, a_request(scheme, server.port))
            assert type(error) is httpx.RemoteProtocolError
            assert server.connections == 2


async def test_a_request_that_finds_no_second_connection_is_a_connect_error(scheme: str) -> None:
    def refuse(peer: Peer) -> None:
        server.refuse()
        peer.read_head()

    with a_server(once_then(refuse), scheme) as server:
        async with a_transport(limit=1) as transport:
            assert await get(transport, a_request(scheme, server.port)) == b"ok"
            error = await error_of(transport, a_request(scheme, server.port))
    assert type(error) is httpx.ConnectError
    assert isinstance(error.__cause__, ConnectionRefusedError)


async def test_a_request_is_not_repeated_after_the_first_byte_of_an_answer(scheme: str) -> None:
    def answer_a_byte(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(b"H")

    with a_server(once_then(answer_a_byte), scheme) as server:
        async with a_transport() as transport:
            assert await get(transport, a_request(scheme, server.port)) == b"ok"
            error = await error_of(transport, a_request(scheme, server.port))
            assert type(error) is httpx.RemoteProtocolError
            assert len(server.requests) == 2


# Cancellation


@pytest.mark.parametrize("sent", [b"", OK[:9], OK[:-1]])
async def test_a_request_that_is_cancelled_ends_its_connection_within_100_ms(
    sent: bytes, scheme: str
) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.sock.sendall(sent)
        peer.wait_for_end()

    with a_server(serve, scheme) as server:
        async with a_transport(limit=1) as transport:
            for _ in range(5):
                asking = asyncio.create_task(get(transport, a_request(scheme, server.port)))
                await asyncio.sleep(0.05)
                asking.cancel()
                cancelled_at = perf_counter()
                await asyncio.wait([asking])
                assert asking.cancelled()
                assert await end_of(server) - cancelled_at < 0.1 + NOISE


async def test_nothing_leaks_under_many_cancellations(scheme: str) -> None:
    with a_server(answering(*[OK] * 100), scheme) as server:
        async with a_transport(limit=4) as transport:
            sockets = open_sockets()
            for n in range(200):
                asking = asyncio.create_task(get(transport, a_request(scheme, server.port)))
                await asyncio.sleep(0.0001 * (n % 40))
                asking.cancel()
            async with asyncio.timeout(5.0):
                many = (get(transport, a_request(scheme, server.port)) for _ in range(20))
                assert await asyncio.gather(*many) == [b"ok"] * 20
            assert open_sockets() <= sockets + 2 * 4
        await sockets_become(sockets)


# Memory


async def test_a_connection_that_is_closed_is_freed_without_the_garbage_collector(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Connection]] = []

    class Watched(connections.Connection):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(weakref.ref(self))

    monkeypatch.setattr("app.upstream.http1.connect.Connection", Watched)
    with a_server(once_then(Peer.read_head, second=OK[:9]), scheme) as server:
        gc.collect()
        gc.disable()
        try:
            async with a_transport() as transport:
                for _ in range(2):  # the second finds the first connection closed
                    try:
                        await get(transport, a_request(scheme, server.port))
                    except httpx.RemoteProtocolError:
                        pass
                gone = asyncio.create_task(get(transport, a_request(scheme, server.port)))
                await asyncio.sleep(0.003)
                gone.cancel()
                await asyncio.wait([gone])
                del gone
            await asyncio.sleep(0.05)
            assert len(made) >= 2
            assert [one() for one in made if one() is not None] == []
        finally:
            gc.enable()
