"""What equal requests have in common is solved once; what they have for themselves stays so."""

import asyncio

import httpx
import pytest
import respx
from fastapi import Request, Response
from starlette.types import Scope

from app.server.route_cache import RouteCache
from tests.fakes import now
from tests.in_process import (
    ID,
    PATH,
    USER,
    Hanging,
    Running,
    a_scope,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


async def test_every_askedhas_its_own_time() -> None:
    async with running_service(upstream_with(posts=Hanging())) as service:
        for milliseconds, seconds in (("300", 0.3), ("1000", 1.0), (None, 2.0)) * 2:
            headers = {} if milliseconds is None else {"X-Request-Timeout-Ms": milliseconds}
            began = now()
            await service.overview("?include=posts", **headers)
            assert now() - began == pytest.approx(seconds)


async def test_every_askedgoes_upstream_with_its_own_headers(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, forward_headers=("authorization",)) as service:
        for one in ("a", "b", "a"):
            response = await service.overview(Authorization=f"Bearer {one}", X_Request_ID=one)
            assert response.headers["x-request-id"] == one
    asked = [call.request.headers for call in upstream["posts"].calls]
    assert [(one["authorization"], one["x-request-id"]) for one in asked] == [
        ("Bearer a", "a"),
        ("Bearer b", "b"),
        ("Bearer a", "a"),
    ]


async def test_every_askedhas_its_own_fan_out() -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return httpx.Response(200, json=[])

    upstream = upstream_with(posts=slow, todos=slow)
    async with running_service(
        upstream, fan_out=1, forward_headers=("accept-language",)
    ) as service:
        await service.overview("?include=posts,todos")
        began = now()
        asking = (service.overview("?include=posts,todos", Accept_Language=one) for one in "ab")
        await asyncio.gather(*asking)
        assert now() - began == pytest.approx(0.2)


async def test_users_and_queries_are_told_apart(
    service: Running, upstream: respx.MockRouter
) -> None:
    upstream.get("/users/8").respond(json=USER | {"id": 8})
    for _ in range(2):
        for user_id in (ID, 8):
            answer = (await service.get(f"/v1/users/{user_id}/overview?include=user")).json()
            assert (answer["user_id"], answer["user"]["data"]["id"]) == (user_id, user_id)
        answer = (await service.get(f"{PATH}?include=todos")).json()
        assert (answer["user"]["status"], answer["todos"]["status"]) == ("skipped", "ok")


@pytest.mark.parametrize("query", ["?include=friends", "?include=posts&require=user"])
async def test_what_is_wrong_stays_wrong(service: Running, query: str) -> None:
    for _ in range(2):
        assert (await service.overview(query)).status_code == 422
        assert (await service.overview(X_Request_Timeout_Ms="soon")).status_code == 422
        assert (await service.overview()).status_code == 200


async def test_the_demos_faults_are_for_the_requests_that_ask_for_them() -> None:
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


def a_request(path: str = PATH, query: str = "", *times: str) -> Scope:
    headers = [(b"x-request-timeout-ms", time.encode()) for time in times]
    return {**a_scope(path), "query_string": query.encode(), "headers": headers}


async def never(_: Request) -> Response:
    raise AssertionError


@pytest.mark.parametrize(
    ("asked", "worth_it"),
    [
        *((a_request(PATH, *more), True) for more in ((), ("include=user",), ("", "800"))),
        (a_request("/" + "a" * 5000), False),
        (a_request(PATH, "a" * 5000), False),
        (a_request(PATH, "", "1" * 4000), False),
        (a_request(PATH, "", "800", "a" * 60_000), False),
        (a_request(PATH, "", *["800"] * 5000), False),
    ],
    ids=["bare", "query", "time", "long path", "long query", "long time", "odd time", "many times"],
)
def test_only_what_is_short_is_remembered(asked: Scope, worth_it: bool) -> None:
    """Whoever makes up requests must not fill our memory with them."""
    route_cache = RouteCache()
    route_cache.add(asked, never)
    assert (route_cache.get(asked) is never) is worth_it


def test_no_more_than_so_many_are_remembered() -> None:
    route_cache = RouteCache()
    requests = [a_request(PATH, f"n={number}") for number in range(10_000)]
    for request in requests:
        route_cache.add(request, never)
    assert sum(route_cache.get(request) is not None for request in requests) <= 5000
    assert route_cache.get(requests[-1]) is never
