"""The route cache: what may differ between equal requests is never taken from it."""

import asyncio

import httpx
import pytest
import respx
from fastapi import Request, Response
from starlette.types import Scope

from app.server.route_cache import RouteCache
from tests.fakes import now
from tests.in_process import (
    PATH,
    USER,
    USER_ID,
    HangingUpstream,
    ServiceClient,
    a_scope,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


async def test_a_route_cache_hit_has_its_own_deadline() -> None:
    async with running_service(
        upstream_with(posts=HangingUpstream()), request_timeout=0.7
    ) as service:
        for milliseconds, seconds in (("300", 0.3), ("500", 0.5), (None, 0.7)) * 2:
            headers = {} if milliseconds is None else {"X-Request-Timeout-Ms": milliseconds}
            start = now()
            await service.overview("?include=posts", **headers)
            assert now() - start == pytest.approx(seconds)


async def test_a_route_cache_hit_forwards_its_own_headers_and_request_id(
    upstream: respx.MockRouter,
) -> None:
    async with running_service(upstream, forward_headers=("authorization",)) as service:
        for name in ("a", "b", "a"):
            response = await service.overview(Authorization=f"Bearer {name}", X_Request_ID=name)
            assert response.headers["x-request-id"] == name
    sent = [call.request.headers for call in upstream["posts"].calls]
    assert [(headers["authorization"], headers["x-request-id"]) for headers in sent] == [
        ("Bearer a", "a"),
        ("Bearer b", "b"),
        ("Bearer a", "a"),
    ]


async def test_a_route_cache_hit_has_its_own_fan_out() -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return httpx.Response(200, json=[])

    upstream = upstream_with(posts=slow, todos=slow)
    async with running_service(
        upstream, fan_out=1, forward_headers=("accept-language",)
    ) as service:
        await service.overview("?include=posts,todos")
        start = now()
        requests = (service.overview("?include=posts,todos", Accept_Language=one) for one in "ab")
        await asyncio.gather(*requests)
        assert now() - start == pytest.approx(0.2)


async def test_the_route_cache_keeps_users_and_queries_apart(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    upstream.get("/users/8").respond(json=USER | {"id": 8})
    for _ in range(2):
        for user_id in (USER_ID, 8):
            answer = (await service.get(f"/v1/users/{user_id}/overview?include=user")).json()
            assert (answer["user_id"], answer["user"]["data"]["id"]) == (user_id, user_id)
        answer = (await service.get(f"{PATH}?include=todos")).json()
        assert (answer["user"]["status"], answer["todos"]["status"]) == ("skipped", "ok")


@pytest.mark.parametrize("query", ["?include=friends", "?include=posts&require=user"])
async def test_an_invalid_request_is_a_422_whatever_the_route_cache_has(
    service: ServiceClient, query: str
) -> None:
    for _ in range(2):
        assert (await service.overview(query)).status_code == 422
        assert (await service.overview(X_Request_Timeout_Ms="soon")).status_code == 422
        assert (await service.overview()).status_code == 200


async def test_the_route_cache_does_not_carry_a_demo_fault_to_other_requests() -> None:
    async with running_demo() as service:
        for fault, status in (
            ("posts=missing", 502),
            ("todos=missing", 200),
            ("nonsense", 422),
        ) * 2:
            response = await service.get(
                "/v1/users/1/overview?include=posts", headers={"X-Demo-Fault": fault}
            )
            assert response.status_code == status


def a_request(path: str = PATH, query: str = "", *timeouts: str) -> Scope:
    headers = [(b"x-request-timeout-ms", timeout.encode()) for timeout in timeouts]
    return {**a_scope(path), "query_string": query.encode(), "headers": headers}


async def replay(_: Request) -> Response:
    raise AssertionError


@pytest.mark.parametrize(
    ("request_scope", "stored"),
    [
        *((a_request(PATH, *more), True) for more in ((), ("include=user",), ("", "800"))),
        (a_request("/" + "a" * 5000), False),
        (a_request(PATH, "a" * 5000), False),
        (a_request(PATH, "", "1" * 4000), False),
        (a_request(PATH, "", "800", "a" * 60_000), False),
        (a_request(PATH, "", *["800"] * 5000), False),
    ],
    ids=[
        "path",
        "query",
        "timeout",
        "long path",
        "long query",
        "long timeout",
        "long second timeout",
        "many timeouts",
    ],
)
def test_the_route_cache_stores_only_short_requests(request_scope: Scope, stored: bool) -> None:
    """A client that invents requests must not fill our memory with them."""
    route_cache = RouteCache()
    route_cache.add(request_scope, replay)
    assert (route_cache.get(request_scope) is replay) is stored


def test_the_route_cache_is_bounded() -> None:
    route_cache = RouteCache()
    requests = [a_request(PATH, f"n={number}") for number in range(10_000)]
    for request in requests:
        route_cache.add(request, replay)
    assert sum(route_cache.get(request) is not None for request in requests) <= 5000
    assert route_cache.get(requests[-1]) is replay
