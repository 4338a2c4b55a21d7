"""The requests that an upstream gets: target, headers, deadline, validators."""

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


async def sent_requests(
    url: str = "http://a.test",
    settings: UpstreamSettings | None = None,
    headers: tuple[Header, ...] = (),
    trace: tuple[Header, ...] = (),
    deadline: float = 2.0,
    pauses: tuple[float, ...] = (0.5,),
    known: Answer | None = None,
) -> list[httpx.Request]:
    """The requests of one call: an attempt after each of the `pauses`, in seconds."""
    requests: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=[])

    context = Context(deadline, asyncio.Semaphore(9), "the-id", headers, trace)
    call = Call(posts_by(7), context, known=known)
    async with Client(httpx.MockTransport(handler)) as client:
        upstream = settings or UpstreamSettings()
        send = exchange(client, url, upstream, lambda _: None, mirror=0)
        for pause in pauses:
            await asyncio.sleep(pause)
            await send(call)
    return requests


async def test_a_request_has_exactly_these_headers() -> None:
    (request,) = await sent_requests("http://a.test:8080/base")
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
    ("deadline", "timeout_ms"), [(10.5, b"10000"), (0.5004, b"1"), (0.5, b"1"), (0.1, b"1")]
)
async def test_the_deadline_is_sent_as_milliseconds_left_and_never_below_1(
    deadline: float, timeout_ms: bytes
) -> None:
    (request,) = await sent_requests(deadline=deadline)
    assert request.headers["x-request-timeout-ms"].encode() == timeout_ms


@pytest.mark.parametrize(
    ("deadline", "pauses", "timeouts_ms"),
    [
        (2.0, (0, 0, 0), [2000, 1999, 1998]),
        (2.0, (0, 0.0004, 0.0004), [2000, 1999, 1998]),
        (2.0, (0.5, 0.25, 0), [1500, 1250, 1249]),
        (0.002, (0, 0, 0, 0), [2, 1, 1, 1]),
    ],
)
async def test_each_retry_sends_a_shorter_deadline_than_the_attempt_before_down_to_1_ms(
    deadline: float, pauses: tuple[float, ...], timeouts_ms: list[int]
) -> None:
    requests = await sent_requests(deadline=deadline, pauses=pauses)
    assert [int(one.headers["x-request-timeout-ms"]) for one in requests] == timeouts_ms


async def test_a_revalidation_sends_the_stored_etag_and_last_modified() -> None:
    validators: tuple[Header, ...] = (
        (b"If-None-Match", b'W/"a"'),
        (b"If-Modified-Since", b"Sun, 22 Nov 2026 13:00:00 GMT"),
    )
    known = an_answer(cache_policy=CachePolicy(0, 0, 0, validators))
    (request,) = await sent_requests(known=known)
    assert set(validators) <= set(request.headers.raw)


async def test_a_stored_answer_without_validators_is_not_revalidated() -> None:
    known = an_answer(cache_policy=a_cache_policy(0, if_error=60))
    (with_known,) = await sent_requests(known=known, deadline=2.0)
    # The clock is half a second on by then, and so is this deadline.
    (without_known,) = await sent_requests(deadline=2.5)
    assert with_known.headers == without_known.headers


async def test_configured_and_forwarded_headers_are_sent() -> None:
    settings = UpstreamSettings(headers={"X-Api-Key": SecretStr("key")})
    (request,) = await sent_requests(
        settings=settings, headers=((b"accept-language", b"nn, \xe5"),)
    )
    assert request.headers["x-api-key"] == "key"
    assert (b"accept-language", b"nn, \xe5") in request.headers.raw


@pytest.mark.parametrize("name", ["user-agent", "authorization"])
async def test_a_forwarded_header_replaces_the_configured_one(name: str) -> None:
    settings = UpstreamSettings(headers={name: SecretStr("ours")})
    (request,) = await sent_requests(settings=settings, headers=((name.encode(), b"the client's"),))
    assert request.headers.get_list(name) == ["the client's"]
