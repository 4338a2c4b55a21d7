"""What is sent upstream."""

import asyncio

import httpx
import pytest
from pydantic import SecretStr

from app.call import Answer, CachePolicy, Call, Context, Header
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.upstream.client import Client
from app.upstream.exchange import exchange
from tests.fakes import a_cache_policy, an_answer

pytestmark = pytest.mark.anyio


async def sent(
    url: str = "http://a.test",
    settings: UpstreamSettings | None = None,
    headers: tuple[Header, ...] = (),
    trace: tuple[Header, ...] = (),
    deadline: float = 2.0,
    pauses: tuple[float, ...] = (0.5,),
    known: Answer | None = None,
) -> list[httpx.Request]:
    """The requests that came through: attempts of one call, each after its pause."""
    requests: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=[])

    context = Context(deadline, asyncio.Semaphore(9), "the-id", headers, trace)
    call = Call(posts_by(7), context, known=known)
    async with Client(httpx.MockTransport(handle)) as client:
        send = exchange(client, url, settings or UpstreamSettings())
        for pause in pauses:
            await asyncio.sleep(pause)
            await send(call)
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


@pytest.mark.parametrize(
    ("deadline", "pauses", "told"),
    [
        (2.0, (0, 0, 0), [2000, 1999, 1998]),
        (2.0, (0, 0.0004, 0.0004), [2000, 1999, 1998]),
        (2.0, (0.5, 0.25, 0), [1500, 1250, 1249]),
        (0.002, (0, 0, 0, 0), [2, 1, 1, 1]),
    ],
)
async def test_every_attempt_is_told_less_than_the_one_before_as_long_as_there_is_less(
    deadline: float, pauses: tuple[float, ...], told: list[int]
) -> None:
    requests = await sent(deadline=deadline, pauses=pauses)
    assert [int(one.headers["x-request-timeout-ms"]) for one in requests] == told


async def test_what_is_known_is_asked_for_with_its_validators() -> None:
    validators: tuple[Header, ...] = (
        (b"If-None-Match", b'W/"a"'),
        (b"If-Modified-Since", b"Sun, 22 Nov 2026 13:00:00 GMT"),
    )
    (request,) = await sent(known=an_answer(cache_policy=CachePolicy(0, 0, 0, validators)))
    assert set(validators) <= set(request.headers.raw)


async def test_what_is_known_without_validators_is_asked_for_as_if_it_were_not() -> None:
    (with_known,) = await sent(
        known=an_answer(cache_policy=a_cache_policy(0, if_error=60)), deadline=2.0
    )
    (without,) = await sent(deadline=2.5)  # each has its own half second before it
    assert with_known.headers == without.headers


async def test_configured_and_forwarded_headers_are_sent() -> None:
    settings = UpstreamSettings(headers={"X-Api-Key": SecretStr("key")})
    (request,) = await sent(settings=settings, headers=((b"accept-language", b"nn, \xe5"),))
    assert request.headers["x-api-key"] == "key"
    assert (b"accept-language", b"nn, \xe5") in request.headers.raw


@pytest.mark.parametrize("name", ["user-agent", "authorization"])
async def test_no_header_is_sent_twice(name: str) -> None:
    settings = UpstreamSettings(headers={name: SecretStr("ours")})
    (request,) = await sent(settings=settings, headers=((name.encode(), b"the client's"),))
    assert request.headers.get_list(name) == ["the client's"]
