"""Cache-Control and ETag of an answer, and 304 Not Modified."""

import asyncio

import httpx
import pytest

from tests.in_process import (
    CONNECT_ERROR,
    POST,
    TODO,
    USER,
    ServiceClient,
    every_upstream,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio


def with_cache_control(value: str | None, json: object) -> httpx.Response:
    return httpx.Response(200, json=json, headers={"Cache-Control": value} if value else {})


@pytest.mark.parametrize(
    ("user", "posts", "todos", "seconds"),
    [
        ("max-age=60", "max-age=30", "max-age=90", 30),
        ("max-age=60", "s-maxage=10, max-age=99", "max-age=90", 10),
        ("max-age=60", "no-cache", "max-age=90", 0),
        ("max-age=60", "max-age=0", "max-age=90", 0),
        ("max-age=60", "no-store, max-age=60", "max-age=90", 0),
        ("max-age=60", None, "max-age=90", 0),
    ],
)
async def test_cache_control_has_the_freshness_of_the_least_fresh_section(
    user: str, posts: str | None, todos: str, seconds: int
) -> None:
    upstream = upstream_with(
        user=with_cache_control(user, USER),
        posts=with_cache_control(posts, [POST]),
        todos=with_cache_control(todos, [TODO]),
    )
    async with running_service(upstream) as service:
        cache_control = (await service.overview()).headers["cache-control"]
    if seconds == 0:
        assert cache_control == "private, no-cache"
    else:  # less by the wall-clock time that the upstream took
        assert seconds - 5 < int(cache_control.removeprefix("private, max-age=")) <= seconds


async def test_cache_control_of_a_cached_answer_has_the_freshness_left() -> None:
    cache_control = []
    async with running_service(upstream_with(), upstreams=every_upstream(ttl=60)) as service:
        for pause in (0, 15, 44, 0.5):
            await asyncio.sleep(pause)
            cache_control.append((await service.overview()).headers["cache-control"])
    assert cache_control == [
        *("private, max-age=60", "private, max-age=45", "private, max-age=1"),
        "private, no-cache",
    ]


async def test_cache_control_uses_our_ttl_where_the_upstream_has_none() -> None:
    settings = {name: {"ttl": seconds} for name, seconds in (("posts", 12.7), ("todos", 20))}
    async with running_service(upstream_with(), upstreams=settings) as service:
        response = await service.overview("?include=posts,todos")
        assert response.headers["cache-control"] == "private, max-age=12"
        assert (await service.overview()).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("posts", [CONNECT_ERROR, with_cache_control("max-age=60", [POST, None])])
async def test_cache_control_of_a_partial_answer_is_no_store(
    posts: httpx.Response | Exception,
) -> None:
    upstream = upstream_with(
        user=with_cache_control("max-age=60", USER),
        posts=posts,
        todos=with_cache_control("max-age=60", [TODO]),
    )
    async with running_service(upstream) as service:
        response = await service.overview()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-complete"] == "false"
    assert "etag" not in response.headers


async def test_the_same_data_has_the_same_weak_etag(service: ServiceClient) -> None:
    first, second = await service.overview(), await service.overview()
    etag = first.headers["etag"]
    assert etag.startswith('W/"')
    assert etag.endswith('"')
    assert second.headers["etag"] == etag
    assert first.headers["x-complete"] == "true"


async def test_other_data_has_another_etag(service: ServiceClient) -> None:
    etags = {(await service.overview(query)).headers["etag"] for query in ("", "?include=posts")}
    async with running_service(upstream_with(posts=httpx.Response(200, json=[POST]))) as other:
        etags.add((await other.overview()).headers["etag"])
    assert len(etags) == 3


@pytest.mark.parametrize(
    "if_none_match",
    ["{etag}", "{strong}", "*", '"other", {etag}', '{strong} , W/"other"', 'W/"o",{etag}'],
)
async def test_a_matching_etag_gives_304_not_modified(
    service: ServiceClient, if_none_match: str
) -> None:
    full = await service.overview()
    etag = full.headers["etag"]
    response = await service.overview(
        If_None_Match=if_none_match.format(etag=etag, strong=etag.removeprefix("W/"))
    )
    assert (response.status_code, response.content) == (304, b"")
    assert "content-type" not in response.headers
    for name in ("etag", "cache-control", "vary", "x-complete"):
        assert response.headers[name] == full.headers[name]


@pytest.mark.parametrize("if_none_match", ['"other"', 'W/"other"', "", "{bare}", '"{bare}', '"*"'])
async def test_an_etag_that_does_not_match_gives_200(
    service: ServiceClient, if_none_match: str
) -> None:
    bare = (await service.overview()).headers["etag"].removeprefix('W/"').removesuffix('"')
    response = await service.overview(If_None_Match=if_none_match.format(bare=bare))
    assert response.status_code == 200
    assert response.content


async def test_if_none_match_on_several_lines_is_one_list_of_etags(service: ServiceClient) -> None:
    etag = (await service.overview()).headers["etag"]
    lines = [("If-None-Match", '"other"'), ("If-None-Match", etag)]
    assert (await service.get("/v1/users/7/overview", headers=lines)).status_code == 304


async def test_a_partial_or_failed_answer_is_never_304_not_modified() -> None:
    async with running_service(upstream_with(posts=CONNECT_ERROR)) as service:
        assert (await service.overview(If_None_Match="*")).status_code == 200
        response = await service.overview("?require=posts", If_None_Match="*")
        assert response.status_code == 502
