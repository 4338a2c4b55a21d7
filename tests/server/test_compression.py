"""Answers above a kilobyte are compressed for whoever accepts it, and say so."""

import zlib

import pytest

from tests.api.simulated_upstreams import SimulatedUpstreams
from tests.api.stream_client import JSON, NDJSON, SSE, stream
from tests.in_process import PATH, ServiceClient, running_service

pytestmark = pytest.mark.anyio

LARGE = "/v1/overviews?user_id=1,2,3,4,5"


def inflated(chunks: list[bytes]) -> list[bytes]:
    """What a client has after each chunk, as it comes."""
    inflater = zlib.decompressobj(wbits=31)
    return [inflater.decompress(chunk) for chunk in chunks]


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br;q=1.0, GZIP;q=0.5", "gzip"),
        ("x-gzip", "gzip"),
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip; q=0.000, identity", None),
        ("xgzip", None),
        ("", None),
    ],
)
async def test_a_large_answer_is_compressed_for_who_accepts_gzip(
    accept: str, coding: str | None
) -> None:
    async with running_service(SimulatedUpstreams().router) as service:
        response = await service.get(LARGE, headers={"Accept-Encoding": accept})
        plain = await service.get(LARGE, headers={"Accept-Encoding": "identity"})
    assert response.headers.get("content-encoding") == coding
    assert [item["user_id"] for item in response.json()["items"]] == [1, 2, 3, 4, 5]
    for one in (response, plain):
        assert one.headers["vary"] == "Accept, Accept-Encoding"
        assert one.headers["etag"].startswith("W/")
    assert response.headers["etag"] == plain.headers["etag"]


async def test_an_answer_below_a_kilobyte_is_not_compressed(service: ServiceClient) -> None:
    response = await service.overview("?include=user")
    assert "content-encoding" not in response.headers
    assert "Accept-Encoding" in response.headers["vary"]


async def test_a_compressed_answer_is_revalidated_by_its_tag() -> None:
    async with running_service(SimulatedUpstreams().router) as service:
        tag = (await service.get(LARGE)).headers["etag"]
        again = await service.get(LARGE, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


async def test_each_line_of_a_compressed_batch_is_there_when_it_is_sent() -> None:
    upstreams = SimulatedUpstreams(posts_1=0.3, posts_2=0.2, posts_3=0.1)
    async with running_service(upstreams.router) as service:
        target = "/v1/overviews?user_id=1,2,3"
        response = await stream(service, target, NDJSON, {"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    lines = inflated([chunk for _, chunk in response.chunks])
    assert [line.count(b"\n") for line in lines if line] == [1, 1, 1]
    assert [round(when, 3) for when, _ in response.chunks][:3] == [0.1, 0.2, 0.3]


async def test_events_are_not_compressed(service: ServiceClient) -> None:
    response = await stream(service, PATH, SSE, {"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers
    assert response.completions


async def test_a_client_that_accepts_nothing_gets_the_bytes_as_they_are() -> None:
    async with running_service(SimulatedUpstreams().router) as service:
        response = await stream(service, LARGE, JSON)
    assert response.text.startswith('{"complete":true')


@pytest.mark.parametrize("path", ["/", "/docs/docs.js", "/openapi.json", "/favicon.ico"])
async def test_documents_and_files_are_compressed_and_revalidated(
    service: ServiceClient, path: str
) -> None:
    response = await service.get(path)
    large = len(response.content) >= 1024
    assert response.headers.get("content-encoding") == ("gzip" if large else None)
    if "etag" in response.headers:
        tag = response.headers["etag"]
        assert tag.startswith("W/")
        again = await service.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
