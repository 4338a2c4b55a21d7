"""Our HTTP/1.1 client over real sockets: what it takes for a response, and for which request."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import chain, repeat

import httpx
import pytest

from app.upstream.transport import Http1Transport
from tests.service.running import eventually

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers the requests, over all its connections, with `replies` in turn; None closes."""

    def __init__(self, replies: Iterator[bytes | None]) -> None:
        self._replies = replies
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self.url = ""

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                reply = next(self._replies)
                if reply is None:
                    return
                writer.write(reply)
                if b"Content-Length" not in reply and b"chunked" not in reply:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.ended += 1
            writer.close()


@asynccontextmanager
async def serving(replies: Iterator[bytes | None]) -> AsyncIterator[Server]:
    server = Server(replies)
    listener = await asyncio.start_server(server.on_connection, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    server.url = f"http://{host}:{port}/path?a=b"
    async with listener:
        yield server


@asynccontextmanager
async def a_client(connections: int = 10) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        Http1Transport(connections) as transport,
        httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, connect=2)) as client,
    ):
        yield client


async def get(client: httpx.AsyncClient, server: Server) -> httpx.Response:
    async with asyncio.timeout(5):
        return await client.get(server.url)


@pytest.mark.parametrize(
    ("reply", "body"),
    [
        (OK, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + OK, b"ok"),
        (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nTrailer: a\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 10**6, b"x" * 10**6),
    ],
    ids=["length", "1xx", "chunked", "until the end", "HTTP/1.0", "long"],
)
async def test_the_body_ends_where_the_response_says(reply: bytes, body: bytes) -> None:
    async with serving(repeat(reply)) as server, a_client() as client:
        for _ in range(3):
            response = await get(client, server)
            assert (response.status_code, response.content) == (200, body)
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        b"nonsense",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        CHUNKED + b"zz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: " + b"x" * 70_000 + b"\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + b"A: b\r\n" * 300 + b"\r\nok",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_not_http_or_has_no_bound_is_a_protocol_error(reply: bytes) -> None:
    async with serving(repeat(reply)) as server, a_client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(client, server)
        assert len(server.requests) == 1


async def test_a_connection_that_ends_within_a_response_is_a_protocol_error() -> None:
    reply = b"HTTP/1.1 200 OK\r\nX-Content-Type: a\r\n"
    async with serving(repeat(reply)) as server, a_client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(client, server)
        assert len(server.requests) == 1


async def test_a_connection_is_kept_and_reused() -> None:
    async with serving(repeat(OK)) as server, a_client() as client:
        for _ in range(5):
            assert (await get(client, server)).content == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        OK + OK.replace(b"ok", b"no"),
        OK + b"garbage",
        b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nno",
    ],
    ids=["close", "a second response", "garbage behind it", "a body without a place"],
)
async def test_a_connection_with_anything_left_on_it_is_not_reused(reply: bytes) -> None:
    async with serving(repeat(reply)) as server, a_client() as client:
        for _ in range(3):
            assert (await get(client, server)).content in (b"ok", b"")
        assert server.connections == 3


async def test_a_kept_connection_that_ends_at_the_next_request_is_replaced_once() -> None:
    async with serving(iter([OK, None, OK, None, None])) as server, a_client() as client:
        reconnects: list[None] = []
        for _ in range(2):
            request = client.build_request(
                "GET", server.url, extensions={"on_reconnect": lambda: reconnects.append(None)}
            )
            assert (await client.send(request)).content == b"ok"
        assert (len(reconnects), server.connections) == (1, 2)
        with pytest.raises(httpx.RemoteProtocolError):
            await get(client, server)
        assert server.connections == 3  # a new connection that ends is the upstream's fault


async def test_a_request_that_is_given_up_ends_its_connection_at_once() -> None:
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    async with serving(repeat(reply)) as server, a_client() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.get(server.url)
        assert await eventually(lambda: server.ended == 1)


async def test_a_request_waits_for_its_turn_when_all_connections_are_busy() -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
    replies = chain([endless] * 2, repeat(OK))
    async with serving(replies) as server, a_client(connections=2) as client:
        busy = [asyncio.create_task(get(client, server)) for _ in range(2)]
        assert await eventually(lambda: len(server.requests) == 2)
        waiting = [asyncio.create_task(get(client, server)) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert server.connections == 2
        busy[0].cancel()
        responses = await asyncio.gather(*waiting)
        assert [response.content for response in responses] == [b"ok"] * 5
        busy[1].cancel()
        await asyncio.wait(busy)


async def test_a_refused_connection_is_a_connect_error() -> None:
    async with serving(repeat(OK)) as server:
        pass
    async with a_client() as client:
        with pytest.raises(httpx.ConnectError):
            await get(client, server)


async def test_another_scheme_is_unsupported() -> None:
    async with a_client() as client:
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1/")
