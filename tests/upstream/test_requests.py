"""What is sent upstream."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from app.resilience.call import Call, Context
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.upstream.client import Client
from app.upstream.exchange import exchange

pytestmark = pytest.mark.anyio


async def sent(
    *urls: str,
    settings: UpstreamSettings | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    deadline: float = 2.0,
    times: int = 1,
) -> list[httpx.Request]:
    """The requests that came through, for as many calls, the first 0.5 s after the start."""
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=[])

    await asyncio.sleep(0.5)
    async with Client(httpx.MockTransport(handle)) as client:
        send = exchange(client, urls or ("http://a.test",), settings or UpstreamSettings())
        for _ in range(times):
            context = Context(deadline, asyncio.Semaphore(9), "the-id", headers)
            await send(Call(posts_by(7), context))
    return requests


async def test_a_request_has_these_headers_and_no_others() -> None:
    (request,) = await sent("http://a.test:8080/base")
    assert (request.method, str(request.url)) == ("GET", "http://a.test:8080/base/posts?userId=7")
    assert dict(request.headers) == {
        "host": "a.test:8080",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": "tributary",
        "x-request-id": "the-id",
        "x-request-timeout-ms": "1500",
    }
    assert len(request.headers.raw) == 6
    assert request.content == b""


@pytest.mark.parametrize(
    ("deadline", "told"), [(10.5, b"10000"), (0.5004, b"1"), (0.5, b"1"), (0.1, b"1")]
)
async def test_the_time_left_is_told_in_whole_milliseconds_and_never_none(
    deadline: float, told: bytes
) -> None:
    (request,) = await sent(deadline=deadline)
    assert request.headers["x-request-timeout-ms"].encode() == told


async def test_mirrors_take_turns() -> None:
    requests = await sent("http://a.test", "http://b.test:81", times=4)
    assert [(one.url.host, one.headers["host"]) for one in requests] == [
        ("a.test", "a.test"),
        ("b.test", "b.test:81"),
    ] * 2


async def test_configured_and_forwarded_headers_are_sent() -> None:
    settings = UpstreamSettings(headers={"X-Api-Key": SecretStr("key")})
    (request,) = await sent(settings=settings, headers=((b"accept-language", b"nn, \xe5"),))
    assert request.headers["x-api-key"] == "key"
    assert (b"accept-language", b"nn, \xe5") in request.headers.raw


@pytest.mark.parametrize("name", ["user-agent", "authorization"])
async def test_no_header_is_sent_twice(name: str) -> None:
    settings = UpstreamSettings(headers={name: SecretStr("ours")})
    (request,) = await sent(settings=settings, headers=((name.encode(), b"the client's"),))
    assert len(request.headers.get_list(name)) == 1
