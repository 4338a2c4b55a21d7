"""What a cache may do with an answer."""

import asyncio

import httpx
import pytest

from tests.in_process import BROKEN, POST, TODO, USER, Running, each, running_service, upstream_with

pytestmark = pytest.mark.anyio


def fresh(control: str | None, json: object) -> httpx.Response:
    return httpx.Response(200, json=json, headers={"Cache-Control": control} if control else {})


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
async def test_a_complete_answer_is_as_fresh_as_its_least_fresh_section(
    user: str, posts: str | None, todos: str, seconds: int
) -> None:
    upstream = upstream_with(
        user=fresh(user, USER), posts=fresh(posts, [POST]), todos=fresh(todos, [TODO])
    )
    async with running_service(upstream) as service:
        control = (await service.overview()).headers["cache-control"]
    if seconds == 0:
        assert control == "private, no-cache"
    else:  # the time that the upstream took by the clock on the wall is gone
        assert seconds - 5 < int(control.removeprefix("private, max-age=")) <= seconds


async def test_an_answer_from_the_cache_is_fresh_for_as_long_as_is_left() -> None:
    told = []
    async with running_service(upstream_with(), upstreams=each(ttl=60)) as service:
        for pause in (0, 15, 44, 0.5):
            await asyncio.sleep(pause)
            told.append((await service.overview()).headers["cache-control"])
    assert told == [*(f"private, max-age={left}" for left in (60, 45, 1)), "private, no-cache"]


async def test_our_own_ttl_counts_where_the_upstream_says_nothing() -> None:
    settings = {name: {"ttl": seconds} for name, seconds in (("posts", 12.7), ("todos", 20))}
    async with running_service(upstream_with(), upstreams=settings) as service:
        response = await service.overview("?include=posts,todos")
        assert response.headers["cache-control"] == "private, max-age=12"
        assert (await service.overview()).headers["cache-control"] == "private, no-cache"


@pytest.mark.parametrize("posts", [BROKEN, fresh("max-age=60", [POST, None])])
async def test_nothing_partial_is_kept(posts: httpx.Response | Exception) -> None:
    upstream = upstream_with(
        user=fresh("max-age=60", USER), posts=posts, todos=fresh("max-age=60", [TODO])
    )
    async with running_service(upstream) as service:
        response = await service.overview()
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-complete"] == "false"
    assert "etag" not in response.headers


async def test_the_same_data_has_the_same_weak_tag(service: Running) -> None:
    first, second = await service.overview(), await service.overview()
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    assert tag.endswith('"')
    assert second.headers["etag"] == tag
    assert first.headers["x-complete"] == "true"


async def test_other_data_has_another_tag(service: Running) -> None:
    tags = {(await service.overview(query)).headers["etag"] for query in ("", "?include=posts")}
    async with running_service(upstream_with(posts=httpx.Response(200, json=[POST]))) as other:
        tags.add((await other.overview()).headers["etag"])
    assert len(tags) == 3


@pytest.mark.parametrize(
    "condition", ["{tag}", "{strong}", "*", '"other", {tag}', '{strong} , W/"other"', 'W/"o",{tag}']
)
async def test_what_the_client_has_already_is_not_sent_again(
    service: Running, condition: str
) -> None:
    full = await service.overview()
    tag = full.headers["etag"]
    response = await service.overview(
        If_None_Match=condition.format(tag=tag, strong=tag.removeprefix("W/"))
    )
    assert (response.status_code, response.content) == (304, b"")
    assert "content-type" not in response.headers
    for name in ("etag", "cache-control", "vary", "x-complete"):
        assert response.headers[name] == full.headers[name]


@pytest.mark.parametrize("condition", ['"other"', 'W/"other"', "", "{bare}", '"{bare}', '"*"'])
async def test_what_the_client_does_not_have_is_sent(service: Running, condition: str) -> None:
    bare = (await service.overview()).headers["etag"].removeprefix('W/"').removesuffix('"')
    response = await service.overview(If_None_Match=condition.format(bare=bare))
    assert response.status_code == 200
    assert response.content


async def test_conditions_on_several_lines_are_one_list(service: Running) -> None:
    tag = (await service.overview()).headers["etag"]
    lines = [("If-None-Match", '"other"'), ("If-None-Match", tag)]
    assert (await service.get("/v1/users/7/overview", headers=lines)).status_code == 304


async def test_a_failure_is_never_answered_with_304() -> None:
    async with running_service(upstream_with(posts=BROKEN)) as service:
        assert (await service.overview(If_None_Match="*")).status_code == 200
        response = await service.overview("?require=posts", If_None_Match="*")
        assert response.status_code == 502
