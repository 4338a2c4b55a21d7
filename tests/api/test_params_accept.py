"""`Accept` (RFC 9110 §12.5.1): JSON, unless the client prefers a stream."""

import pytest
import respx
from fastapi import Request

from app.api.params import prefers
from tests.api.stream_client import JSON, NDJSON, SSE, fold, parse_sse
from tests.in_process import PATH, ServiceClient, every_upstream, running_service

pytestmark = pytest.mark.anyio

BATCH = "/v1/overviews?user_id=7"


@pytest.mark.parametrize(
    ("accepted", "stream_preferred"),
    [
        ((), False),
        (("",), False),
        (("*/*",), False),
        (("text/*",), False),
        ((JSON,), False),
        (("{}",), True),
        (("{}; charset=utf-8",), True),
        ((" {} ;q=1",), True),
        (("{};Q=0.2",), True),
        # With both at the same weight, JSON is preferred.
        (("{}, application/json",), False),
        (("application/json, {}",), False),
        (("{}, application/json;q=0.9",), True),
        (("{};q=0.9, application/json",), False),
        (("{};q=0.5,application/json;q=0.4",), True),
        (("{};q=0.5, application/json; charset=utf-8; q=0.6",), False),
        (("{};q=0.1, application/json;q=0",), True),
        # A media type goes before a range of them.
        (("{}, */*",), True),
        (("*/*, {}",), True),
        (("{};q=0.5, */*",), False),
        (("{}, application/*",), True),
        (("{};q=0.5, application/*;q=0.6",), False),
        (("{};q=0.5, application/*;q=0.4, */*",), True),
        (("{};q=0.5, application/json;q=0.4, */*",), True),
        # Weight 0: not acceptable.
        (("{};q=0",), False),
        (("{};q=0, */*;q=0",), False),
        (("{};q=0.000",), False),
        # Several header lines are one list.
        ((JSON, "{}"), False),
        (("{};q=0.9", "application/json;q=0.8"), True),
        (("text/html", "{}"), True),
        (("*/*;q=0.1", "{};q=0.2"), True),
        # A malformed item counts as weight 0, or as an unknown range.
        (("{};q=high",), False),
        (("{};q=",), False),
        (("{};q=high, application/json",), False),
        (("x{}",), False),
        (("{}x",), False),
        (("{} application/json",), False),
        (("text/html{}",), False),
        ((";;;,,,{}",), True),
        (("\xff{}\xff", ";q=1"), False),
    ],
)
@pytest.mark.parametrize("media_type", [SSE, NDJSON])
def test_accept_prefers_a_stream_or_json_by_its_weights(
    accepted: tuple[str, ...], stream_preferred: bool, media_type: str
) -> None:
    lines = [line.format(media_type).encode("latin-1") for line in accepted]
    scope = {"type": "http", "headers": [(b"accept", line) for line in lines]}
    assert prefers(Request(scope), media_type) is stream_preferred


@pytest.mark.parametrize("media_type", [SSE, NDJSON])
def test_accept_is_case_insensitive(media_type: str) -> None:
    scope = {"type": "http", "headers": [(b"accept", media_type.title().encode())]}
    assert prefers(Request(scope), media_type)


@pytest.mark.parametrize(
    ("path", "accepted", "content_type"),
    [
        (PATH, [], JSON),
        (PATH, [NDJSON], JSON),
        (PATH, ["text/html"], JSON),
        (PATH, [SSE], f"{SSE}; charset=utf-8"),
        (PATH, ["text/html;q=0.2", f"{SSE};q=0.4"], f"{SSE}; charset=utf-8"),
        (BATCH, [], JSON),
        (BATCH, [SSE], JSON),
        (BATCH, [NDJSON], NDJSON),
        (BATCH, ["text/html;q=0.2", f"{NDJSON};q=0.4"], NDJSON),
    ],
)
async def test_accept_gets_sse_from_an_overview_and_ndjson_from_a_batch(
    service: ServiceClient, path: str, accepted: list[str], content_type: str
) -> None:
    response = await service.get(path, headers=[("Accept", line) for line in accepted])
    assert response.status_code == 200
    assert response.headers["content-type"] == content_type


@pytest.mark.parametrize("ttl", [0, 60.5])
async def test_accept_decides_despite_route_cache_and_response_cache(
    upstream: respx.MockRouter, ttl: float
) -> None:
    """Equal requests but for `Accept`, when their JSON response is cached already."""
    async with running_service(upstream, upstreams=every_upstream(ttl=ttl)) as service:
        json_response, _ = [await service.overview() for _ in range(2)]
        for accept in (SSE, JSON, SSE, "*/*", f"{SSE};q=0.5, {JSON}"):
            response = await service.overview(Accept=accept)
            assert response.headers["vary"] == "Accept, Accept-Encoding"
            if accept == SSE:
                assert response.headers["content-type"].startswith(SSE)
                status, answer = fold(parse_sse(response.text))
                assert (status, answer["complete"]) == (200, True)
            else:
                assert response.headers["content-type"] == JSON
                assert response.headers["etag"] == json_response.headers["etag"]
                answer = response.json()
            assert answer["user"]["data"] == json_response.json()["user"]["data"]
