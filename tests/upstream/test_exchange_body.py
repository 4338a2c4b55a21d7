"""The body of a response: content type, gzip, and the `max_body` limit."""

import gzip

import httpx
import pytest

from app.call import Answer
from app.errors import InvalidPayload
from app.settings import UpstreamSettings
from tests.fakes import result_or_error
from tests.upstream.mock_transport import JSON, POSTS, Body, answer_from, failure_from, fetch

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "text/json", "application/hal+json"],
)
async def test_a_json_content_type_is_accepted(media_type: str) -> None:
    assert (await answer_from(content_type=media_type)).data.json == POSTS


@pytest.mark.parametrize(
    "media_type", ["text/html", "application/xml", "", "json", "image/svg+json", "application/js"]
)
async def test_another_content_type_is_an_invalid_payload_whose_body_is_not_read(
    media_type: str,
) -> None:
    body = Body(POSTS)
    response = httpx.Response(200, headers={"Content-Type": media_type}, stream=body)
    assert isinstance(await failure_from(response), InvalidPayload)
    assert (body.chunks_read, body.closed) == (0, True)


async def test_a_missing_content_type_is_an_invalid_payload() -> None:
    failure = await failure_from(httpx.Response(200, stream=Body(POSTS)))
    assert isinstance(failure, InvalidPayload)


@pytest.mark.parametrize(
    ("lines", "is_json"),
    [
        (["application/json"] * 2, True),
        (["application/json; charset=utf-8"] * 3, True),
        (["text/json", "text/html"], False),
        (["text/html"] * 2, False),
    ],
)
async def test_equal_content_type_lines_are_one(lines: list[str], is_json: bool) -> None:
    headers = [("Content-Type", line) for line in lines]
    result = await result_or_error(
        fetch(lambda _: httpx.Response(200, headers=headers, stream=Body(POSTS)))
    )
    assert isinstance(result, Answer if is_json else InvalidPayload)


@pytest.mark.parametrize(
    ("coding", "body"),
    [("identity", POSTS), ("gzip", gzip.compress(POSTS)), ("X-GZIP", gzip.compress(POSTS))],
)
async def test_a_gzip_body_is_decompressed(coding: str, body: bytes) -> None:
    assert (await answer_from(body, content_encoding=coding)).data.json == POSTS


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_a_content_encoding_other_than_gzip_is_an_invalid_payload(coding: str) -> None:
    failure = await result_or_error(answer_from(content_encoding=coding))
    assert isinstance(failure, InvalidPayload)


async def test_a_chunked_body_is_read_no_further_than_max_body() -> None:
    body = Body(b"[", *[b" " * 1000] * 100, b"]")
    response = httpx.Response(200, headers=JSON, stream=body)
    failure = await result_or_error(
        fetch(lambda _: response, settings=UpstreamSettings(max_body=10_000))
    )
    assert isinstance(failure, InvalidPayload)
    assert failure.detail == "the body is too large"
    assert (body.chunks_read, body.closed) == (11, True)


@pytest.mark.parametrize(("room", "fits"), [(0, True), (-1, False)])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_max_body_is_exact_and_counts_decompressed_gzip(
    room: int, fits: bool, coding: str
) -> None:
    plain = b" " * 5000 + POSTS
    body = gzip.compress(plain) if coding == "gzip" else plain
    response = httpx.Response(
        200, headers=JSON | {"Content-Encoding": coding}, stream=Body(body[:50], body[50:])
    )
    settings = UpstreamSettings(max_body=len(plain) + room)
    result = await result_or_error(fetch(lambda _: response, settings=settings))
    assert isinstance(result, Answer if fits else InvalidPayload)
