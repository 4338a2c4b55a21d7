"""What is read of an answer, and how far."""

import gzip

import httpx
import pytest

from app.call import Answer
from app.errors import InvalidPayload
from app.settings import UpstreamSettings
from tests.fakes import result_or_error
from tests.upstream.asking import BODY, JSON, Stream, answered, asked, failed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "text/json", "application/hal+json"],
)
async def test_what_calls_itself_json_is_read(media_type: str) -> None:
    assert (await answered(content_type=media_type)).data.json == BODY


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/xml", "", "json", "image/svg+json", "application/js"]
)
async def test_what_does_not_is_refused_unread(media_type: str) -> None:
    stream = Stream(BODY)
    response = httpx.Response(200, headers={"Content-Type": media_type}, stream=stream)
    assert isinstance(await failed(response), InvalidPayload)
    assert (stream.read, stream.closed) == (0, True)


async def test_what_does_not_say_its_type_is_refused() -> None:
    assert isinstance(await failed(httpx.Response(200, stream=Stream(BODY))), InvalidPayload)


@pytest.mark.parametrize(
    ("coding", "body"),
    [("identity", BODY), ("gzip", gzip.compress(BODY)), ("X-GZIP", gzip.compress(BODY))],
)
async def test_a_compressed_body_is_read_as_what_it_was(coding: str, body: bytes) -> None:
    assert (await answered(body, content_encoding=coding)).data.json == BODY


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_a_compression_not_asked_for_is_refused(coding: str) -> None:
    assert isinstance(await result_or_error(answered(content_encoding=coding)), InvalidPayload)


async def test_an_endless_body_is_read_no_further_than_its_bound() -> None:
    stream = Stream(b"[", *[b" " * 1000] * 100, b"]")
    response = httpx.Response(200, headers=JSON, stream=stream)
    failure = await result_or_error(
        asked(lambda _: response, settings=UpstreamSettings(max_body=10_000))
    )
    assert isinstance(failure, InvalidPayload)
    assert failure.detail == "the body is too large"
    assert (stream.read, stream.closed) == (11, True)


@pytest.mark.parametrize(("room", "fits"), [(0, True), (-1, False)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_the_bound_is_exact_and_holds_within_compression(
    room: int, fits: bool, coding: str
) -> None:
    plain = b" " * 5000 + BODY
    body = gzip.compress(plain) if coding == "gzip" else plain
    response = httpx.Response(
        200, headers=JSON | {"Content-Encoding": coding}, stream=Stream(body[:50], body[50:])
    )
    settings = UpstreamSettings(max_body=len(plain) + room)
    end = await result_or_error(asked(lambda _: response, settings=settings))
    assert isinstance(end, Answer if fits else InvalidPayload)
