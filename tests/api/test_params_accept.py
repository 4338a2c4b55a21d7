"""Which representation a client gets for what it accepts; JSON, unless it says otherwise."""

import pytest
import respx
from fastapi import Request

from app.api.params import prefers
from tests.api.folding import EVENTS, NDJSON, fold, parsed
from tests.in_process import PATH, Running, each, running_service

pytestmark = pytest.mark.anyio

JSON = "application/json"
MANY = "/v1/overviews?user_id=7"


@pytest.mark.parametrize(
    ("accepted", "wanted"),
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
        # Whoever names both, at the same weight, has JSON.
        (("{}, application/json",), False),
        (("application/json, {}",), False),
        (("{}, application/json;q=0.9",), True),
        (("{};q=0.9, application/json",), False),
        (("{};q=0.5,application/json;q=0.4",), True),
        (("{};q=0.5, application/json; charset=utf-8; q=0.6",), False),
        (("{};q=0.1, application/json;q=0",), True),
        # What is named goes before what is only meant along with others.
        (("{}, */*",), True),
        (("*/*, {}",), True),
        (("{};q=0.5, */*",), False),
        (("{}, application/*",), True),
        (("{};q=0.5, application/*;q=0.6",), False),
        (("{};q=0.5, application/*;q=0.4, */*",), True),
        (("{};q=0.5, application/json;q=0.4, */*",), True),
        # Not at all.
        (("{};q=0",), False),
        (("{};q=0, */*;q=0",), False),
        (("{};q=0.000",), False),
        # Several lines are one list.
        ((JSON, "{}"), False),
        (("{};q=0.9", "application/json;q=0.8"), True),
        (("text/html", "{}"), True),
        (("*/*;q=0.1", "{};q=0.2"), True),
        # What cannot be read is not a wish.
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
@pytest.mark.parametrize("media_type", [EVENTS, NDJSON])
def test_a_stream_is_for_those_who_like_it_best(
    accepted: tuple[str, ...], wanted: bool, media_type: str
) -> None:
    lines = [line.format(media_type).encode("latin-1") for line in accepted]
    scope = {"type": "http", "headers": [(b"accept", line) for line in lines]}
    assert prefers(Request(scope), media_type) is wanted


@pytest.mark.parametrize("media_type", [EVENTS, NDJSON])
def test_names_are_the_same_in_capitals(media_type: str) -> None:
    scope = {"type": "http", "headers": [(b"accept", media_type.title().encode())]}
    assert prefers(Request(scope), media_type)


@pytest.mark.parametrize(
    ("path", "accepted", "given"),
    [
        (PATH, [], JSON),
        (PATH, [NDJSON], JSON),
        (PATH, ["text/html"], JSON),
        (PATH, [EVENTS], f"{EVENTS}; charset=utf-8"),
        (PATH, ["text/html;q=0.2", f"{EVENTS};q=0.4"], f"{EVENTS}; charset=utf-8"),
        (MANY, [], JSON),
        (MANY, [EVENTS], JSON),
        (MANY, [NDJSON], NDJSON),
        (MANY, ["text/html;q=0.2", f"{NDJSON};q=0.4"], NDJSON),
    ],
)
async def test_each_view_has_a_stream_of_its_own(
    service: Running, path: str, accepted: list[str], given: str
) -> None:
    response = await service.get(path, headers=[("Accept", line) for line in accepted])
    assert response.status_code == 200
    assert response.headers["content-type"] == given


@pytest.mark.parametrize("ttl", [0, 60])
async def test_equal_requests_get_what_each_of_them_accepts(
    upstream: respx.MockRouter, ttl: float
) -> None:
    """Also when all but their headers is remembered, and the JSON answer is written already."""
    async with running_service(upstream, upstreams=each(ttl=ttl)) as service:
        whole = [await service.overview() for _ in range(2)]
        for accept in (EVENTS, JSON, EVENTS, "*/*", f"{EVENTS};q=0.5, {JSON}"):
            response = await service.overview(Accept=accept)
            assert response.headers["vary"] == "Accept"
            if accept == EVENTS:
                assert response.headers["content-type"].startswith(EVENTS)
                status, answer = fold(parsed(response.text))
                assert (status, answer["complete"]) == (200, True)
            else:
                assert response.headers["content-type"] == JSON
                assert response.headers["etag"] == whole[0].headers["etag"]
                answer = response.json()
            assert answer["user"]["data"] == whole[0].json()["user"]["data"]
