"""Heads of responses over real sockets: what is ordinary, what is too much, and odd statuses."""

import asyncio
import contextlib
from itertools import repeat
from time import perf_counter

import pytest

from app.call import Answer, Call
from app.errors import Failure, Unreachable, UpstreamStatus
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.upstream.client import Client
from app.upstream.exchange import exchange
from app.upstream.transport import Http1Transport
from tests.fakes import a_context
from tests.upstream.http1.sockets import NOISE, Peer, Serve, Server, answering

pytestmark = pytest.mark.anyio

POSTS = b'[{"userId":1,"id":1,"title":"t","body":"b"}]'
START = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
END = b"Content-Length: %d\r\n\r\n%b" % (len(POSTS), POSTS)


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


async def ask(serve: Serve) -> Answer | Exception:
    """What one exchange with such a server becomes."""
    settings = UpstreamSettings()
    with Server(serve) as server:
        async with Http1Transport(1) as transport, Client(transport) as client:
            url = f"http://127.0.0.1:{server.port}"
            send = exchange(client, url, settings, lambda _: None, mirror=0)
            call = Call(posts_by(1), a_context())
            try:
                return (await send(call)).decode()
            except Failure as failure:
                return failure


ORDINARY = {
    "a field of 8,191 bytes": b"Set-Cookie: %b\r\n" % (b"a" * 8191),
    "a field of 60,000 bytes": b"Content-Security-Policy: %b\r\n" % (b"b" * 60_000),
    "129 fields": b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(129)),
    "254 fields, 256 with ours": b"X: y\r\n" * 254,
    "8 times 100 Continue before it": b"",
    "two equal types": b"Content-Type: application/json\r\n",
    "bytes that are not UTF-8": b"X-Name: \xff\xfe\r\n",
}


@pytest.mark.parametrize("case", ORDINARY)
async def test_an_answer_is_read_with(case: str) -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" * 8 if case.startswith("8 times") else b""
    answer = await ask(answering(interim + START + ORDINARY[case] + END))
    assert isinstance(answer, Answer)
    assert answer.data.json == POSTS


TOO_MUCH = {
    "a field of 64 KiB": START + b"X: %b\r\n" % (b"a" * 65_536) + END,
    "257 fields": START + b"X: y\r\n" * 255 + END,
    "9 times 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + START + END,
    "9 times 103 Early Hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 9 + START + END,
}


@pytest.mark.parametrize("case", TOO_MUCH)
async def test_an_upstream_is_unreachable_with(case: str) -> None:
    failure = await ask(answering(TOO_MUCH[case]))
    assert isinstance(failure, Unreachable)
    assert (failure.cause or "").startswith("RemoteProtocolError")


ENDLESS = {
    "100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n",
    "100 Continue with a field": b"HTTP/1.1 100 Continue\r\nX: %b\r\n\r\n" % (b"a" * 500),
    "fields": b"X: y\r\n",
    "one field": b"a" * 1000,
}


@pytest.mark.parametrize("case", ENDLESS)
async def test_a_head_that_never_ends_holds_nobody_up(case: str) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        piece = ENDLESS[case] * 100
        with contextlib.suppress(OSError):
            peer.sock.sendall(b"" if case.startswith("100") else START + b"X: ")
            for data in repeat(piece):
                peer.sock.sendall(data)

    longest, watching = 0.0, True

    async def watch() -> None:
        nonlocal longest
        while watching:
            before = perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, perf_counter() - before)

    watcher = asyncio.create_task(watch())
    began = perf_counter()
    failure = await ask(serve)
    assert isinstance(failure, Unreachable)
    assert perf_counter() - began < 0.1 + NOISE
    watching = False
    await watcher
    assert longest < 0.05 + NOISE


@pytest.mark.parametrize("code", [b"218", b"299", b"600", b"777", b"999", b"000", b"042"])
async def test_a_status_that_is_not_standard_is_told_and_not_retried(code: bytes) -> None:
    head = b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % code
    failure = await ask(answering(head))
    assert isinstance(failure, UpstreamStatus)
    assert failure.cause == f"HTTP {code.decode()}"
    assert (failure.policy.retry_on, failure.retryable) == ("never", False)
