"""The response cache: a response is sent again only where a new one would be the same."""

import asyncio

import httpx
import pytest
import respx
from fastapi.responses import Response

from app.api.responses import ResponseCache
from app.call import Answer, Tally
from app.composition.outcome import Outcome
from tests.api.stream_client import JSON, stream
from tests.fakes import a_cache_policy, an_answer
from tests.in_process import PATH, POST, every_upstream, running_service, upstream_with

pytestmark = pytest.mark.anyio

CACHING = every_upstream(ttl=60.5)
"""Not whole seconds: a response is stored until its shortest ttl is a whole number of them."""


def outcomes_of(*answers: Answer) -> dict[str, Outcome]:
    return {str(number): Outcome(answer, Tally(), 0.0) for number, answer in enumerate(answers)}


@pytest.mark.parametrize(
    ("now", "valid"), [(10.0, True), (10.24, True), (10.25, False), (11.0, False)]
)
def test_a_response_cache_entry_is_valid_until_a_ttl_is_a_second_less(
    now: float, valid: bool
) -> None:
    responses, response = ResponseCache(), Response(b"{}")
    outcomes = outcomes_of(
        an_answer(cache_policy=a_cache_policy(15.5)), an_answer(cache_policy=a_cache_policy(70.25))
    )
    responses.put(outcomes, 10.0, response)
    assert (responses.get(outcomes, now) is response) is valid


def test_the_response_cache_compares_answers_by_identity() -> None:
    responses = ResponseCache()
    one, other = (an_answer(cache_policy=a_cache_policy(60.5)) for _ in range(2))
    responses.put(outcomes_of(one, one), 10.0, Response(b"{}"))
    assert one == other
    assert responses.get(outcomes_of(one, other), 10.0) is None
    assert responses.get(outcomes_of(one), 10.0) is None
    assert responses.get(outcomes_of(one, one), 10.0) is not None


def test_the_response_cache_stores_no_large_body() -> None:
    responses, outcomes = ResponseCache(), outcomes_of(an_answer(cache_policy=a_cache_policy(60.5)))
    responses.put(outcomes, 10.0, Response(b" " * 16_385))
    assert responses.get(outcomes, 10.0) is None


async def test_a_response_cache_hit_sends_the_stored_body(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        _, stored, hit = [await stream(service, PATH, JSON) for _ in range(3)]
        await asyncio.sleep(0.5)
        later = await stream(service, PATH, JSON)
    (_, body), (_, body_of_hit), (_, body_later) = *stored.chunks, *hit.chunks, *later.chunks
    assert body_of_hit is body
    assert body_later == body
    assert body_later is not body
    assert stored.headers["cache-control"] == hit.headers["cache-control"] == "private, max-age=60"


async def test_the_response_cache_stores_no_explained_answer(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, upstreams=CACHING, explain="on") as service:
        target = f"{PATH}?explain=true"
        _, second, third = [await stream(service, target, JSON) for _ in range(3)]
    (_, body), (_, body_of_third) = *second.chunks, *third.chunks
    assert b'"timeline"' in body
    assert body_of_third is not body


async def test_an_answer_fetched_with_no_cache_replaces_the_response_cache_entry(
    upstream: respx.MockRouter,
) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        old = [await service.overview() for _ in range(3)]
        upstream["posts"].respond(json=[POST | {"title": "new"}])
        fetched = await service.overview(Cache_Control="no-cache")
        new = [await service.overview() for _ in range(3)]
    assert {one.content for one in old} == {old[0].content}
    assert {one.content for one in new} == {fetched.content} != {old[0].content}
    assert {one.headers["etag"] for one in new} == {fetched.headers["etag"]}
    assert [one.headers["cache-status"].count("hit") for one in new] == [3, 3, 3]


async def test_a_matching_etag_gives_304_not_modified_despite_the_response_cache(
    upstream: respx.MockRouter,
) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        etag = [await service.overview() for _ in range(3)][-1].headers["etag"]
        response = await service.overview(If_None_Match=etag)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag


async def test_the_response_cache_keeps_credentials_apart() -> None:
    def echo_authorization(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[POST | {"title": request.headers["authorization"]}])

    settings = {"forward_headers": ("authorization",), "upstreams": CACHING}
    async with running_service(upstream_with(posts=echo_authorization), **settings) as service:
        for token in [*["one"] * 3, *["two"] * 3, "one", "two"]:
            response = await service.overview(Authorization=token)
            assert response.json()["posts"]["data"][0]["title"] == token


async def test_a_response_cache_hit_has_its_own_request_id(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, upstreams=CACHING) as service:
        for request_id in ("a", "b", "c"):
            response = await service.overview(X_Request_ID=request_id)
            assert response.headers.get_list("x-request-id") == [request_id]
