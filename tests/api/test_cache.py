"""What our own cache has to do with an answer, and how the answer tells."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest
import respx

from tests.in_process import (
    ABSENT,
    BROKEN,
    BUSY,
    FAULTY,
    GARBAGE,
    LATE,
    MODELS,
    PATH,
    POST,
    USER,
    End,
    Hanging,
    Running,
    body_of,
    each,
    healthy,
    logged,
    replace_route,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts"
TAGGED = httpx.Response(200, json=[POST], headers={"ETag": '"a"'})
KEPT = each(ttl=60, stale_while_revalidate=30, stale_if_error=600, retries=0)


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[Running]:
    """Answers are fresh for 60 s, good for 30 s more meanwhile and for 600 s in need."""
    async with running_service(upstream, upstreams=KEPT) as running:
        yield running


def how(response: httpx.Response) -> tuple[str, str]:
    """Cache-Status, and the description of the one section in Server-Timing."""
    section = response.headers["server-timing"].split(", ")[0]
    _, _, description = section.partition(";desc=")
    return response.headers["cache-status"], description.strip('"')


async def test_what_is_stored_is_not_asked_again_and_says_how_long_it_is_fresh(
    service: Running, upstream: respx.MockRouter
) -> None:
    first = await service.overview(POSTS)
    assert how(first) == ("posts; fwd=miss; stored", "")
    for pause, left in ((0, 60), (10, 50), (49.5, 0)):
        await asyncio.sleep(pause)
        again = await service.overview(POSTS)
        assert how(again) == (f"posts; hit; ttl={left}", "hit")
        assert (again.content, again.headers["etag"]) == (first.content, first.headers["etag"])
    assert upstream["posts"].call_count == 1


async def test_each_section_is_kept_for_itself() -> None:
    upstream = healthy()
    async with running_service(upstream, upstreams={"posts": {"ttl": 60}}) as service:
        await service.overview(POSTS)
        response = await service.overview()
    assert response.headers["cache-status"] == (
        "users; fwd=miss, posts; hit; ttl=60, todos; fwd=miss"
    )
    assert [upstream[name].call_count for name in ("user", "posts", "todos")] == [1, 1, 1]


async def test_what_is_stored_belongs_to_the_headers_it_was_asked_with() -> None:
    upstream = healthy()
    async with running_service(
        upstream, upstreams=KEPT, forward_headers=("authorization",)
    ) as service:
        for whose in ("Bearer a", "Bearer b", "Bearer a"):
            await service.overview(POSTS, Authorization=whose)
        await service.overview(POSTS)
    asked = [call.request.headers.get("authorization") for call in upstream["posts"].calls]
    assert asked == ["Bearer a", "Bearer b", None]


async def test_a_stale_answer_is_served_at_once_while_one_client_makes_it_fresh(
    service: Running, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(65)
    stale = await service.overview(POSTS)
    assert how(stale) == ("posts; hit; ttl=-5", "stale")
    # It is what it was, as far as anybody knows: complete, but not to be kept any longer.
    assert (stale.headers["cache-control"], stale.headers["x-complete"]) == (
        "private, no-cache",
        "true",
    )
    assert body_of(stale, MODELS.answer)["posts"]["stale"] is False
    await asyncio.sleep(1)
    assert how(await service.overview(POSTS)) == ("posts; hit; ttl=59", "hit")
    assert upstream["posts"].call_count == 2


async def test_what_is_too_stale_is_asked_for_again(
    service: Running, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(90)
    assert how(await service.overview(POSTS)) == ("posts; fwd=stale; stored", "")
    assert upstream["posts"].call_count == 2


async def test_what_the_upstream_says_is_still_good_costs_no_body() -> None:
    upstream = upstream_with(posts=TAGGED)
    async with running_service(upstream, upstreams=each(ttl=60)) as service:
        first = await service.overview(POSTS)
        await asyncio.sleep(60)
        replace_route(upstream, "posts", httpx.Response(304))
        again = await service.overview(POSTS)
        assert how(again) == ("posts; fwd=stale; fwd-status=304; stored", "")
        assert again.headers["etag"] == first.headers["etag"]
        assert how(await service.overview(POSTS)) == ("posts; hit; ttl=60", "hit")
    conditions = [call.request.headers.get("if-none-match") for call in upstream["posts"].calls]
    assert conditions == [None, '"a"']


@pytest.mark.parametrize(
    "control",
    [
        *(["no-cache"], ["no-store"], ["No-Cache"], ["NO-STORE"], ["max-age=0, no-cache"]),
        *(["no-store,max-age=0"], ["max-age=60", "no-cache"], [" no-cache ,no-transform"]),
    ],
)
async def test_a_client_may_skip_what_is_stored(
    service: Running, upstream: respx.MockRouter, control: list[str]
) -> None:
    await service.overview(POSTS)
    headers = [("Cache-Control", line) for line in control]
    response = await service.get(PATH + POSTS, headers=headers)
    assert how(response)[0].startswith("posts; fwd=request")
    assert upstream["posts"].call_count == 2
    assert "if-none-match" not in upstream["posts"].calls.last.request.headers


@pytest.mark.parametrize("control", ["", "max-age=60", "no-transform", "x-no-cache", "no-cachet"])
async def test_another_word_of_the_client_changes_nothing(service: Running, control: str) -> None:
    await service.overview(POSTS)
    response = await service.overview(POSTS, Cache_Control=control)
    assert how(response) == ("posts; hit; ttl=60", "hit")


async def test_what_a_client_asked_for_anew_is_new_for_everybody(
    service: Running, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(30)
    replace_route(upstream, "posts", httpx.Response(200, json=[]))
    await service.overview(POSTS, Cache_Control="no-cache")
    response = await service.overview(POSTS)
    assert how(response) == ("posts; hit; ttl=60", "hit")
    assert body_of(response, MODELS.answer)["posts"]["data"] == []


async def test_clients_that_ask_the_same_at_once_share_one_call(
    upstream: respx.MockRouter,
) -> None:
    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.5)
        return httpx.Response(200, json=[POST])

    replace_route(upstream, "posts", slow)
    async with running_service(upstream) as service:
        first, second = await asyncio.gather(service.overview(POSTS), service.overview(POSTS))
    assert how(first) == ("posts; fwd=miss", "")
    assert how(second) == ("posts; fwd=miss; collapsed", "coalesced")
    assert first.content == second.content
    assert upstream["posts"].call_count == 1


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (BROKEN, "unreachable"),
        (LATE, "timeout"),
        (FAULTY, "upstream_status"),
        (GARBAGE, "invalid_payload"),
        (BUSY, "overloaded"),
    ],
)
async def test_last_good_data_stands_in_when_the_upstream_cannot_be_asked(
    upstream: respx.MockRouter, end: End, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(upstream, upstreams=KEPT) as service:
        good = body_of(await service.overview("?require=posts"), MODELS.answer)["posts"]
        await asyncio.sleep(100)
        replace_route(upstream, "posts", end)
        capsys.readouterr()
        response = await service.overview("?require=posts", X_Request_ID="find-me")
    assert (response.status_code, response.headers["x-complete"]) == (200, "false")
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers
    body = body_of(response, MODELS.answer)
    assert body["complete"] is False
    assert body["posts"] == good | {"stale": True}
    assert body["user"]["stale"] is False
    assert "posts; fwd=stale; ttl=-40; detail=stale-if-error" in response.headers["cache-status"]
    assert re.search(r'posts;dur=[0-9.]+;desc="stale"', response.headers["server-timing"])

    lines = logged(capsys.readouterr().out)
    (served,) = (line for line in lines if line["event"] == "served stale")
    assert served["level"] == "warning"
    assert (served["upstream"], served["reason"], served["request_id"]) == (
        "posts",
        reason,
        "find-me",
    )
    (request,) = (line for line in lines if line["event"] == "request")
    assert (request["stale"], request["failed"], request["complete"]) == (["posts"], {}, False)


@pytest.mark.parametrize(
    ("section", "end", "status"),
    [
        ("posts", httpx.Response(403), 502),
        ("posts", ABSENT, 502),
        ("user", ABSENT, 404),
    ],
)
async def test_what_the_upstream_refuses_or_denies_is_its_answer(
    service: Running, upstream: respx.MockRouter, section: str, end: End, status: int
) -> None:
    query = f"?include={section}"
    await service.overview(query)
    await asyncio.sleep(100)
    replace_route(upstream, section, end)
    assert (await service.overview(query)).status_code == status


async def test_a_user_that_is_gone_is_forgotten(
    service: Running, upstream: respx.MockRouter
) -> None:
    await service.overview("?include=user")
    await asyncio.sleep(100)
    replace_route(upstream, "user", ABSENT)
    await service.overview("?include=user")
    replace_route(upstream, "user", BROKEN)
    assert (await service.overview("?include=user")).status_code == 502


async def test_data_that_was_good_too_long_ago_stands_in_for_nothing(
    service: Running, upstream: respx.MockRouter
) -> None:
    await service.overview(POSTS)
    await asyncio.sleep(660)
    replace_route(upstream, "posts", BROKEN)
    response = await service.overview(POSTS)
    assert (response.status_code, how(response)) == (502, ("posts; fwd=stale", ""))


@pytest.mark.parametrize("control", ["no-cache", "no-store"])
async def test_who_wants_nothing_stored_is_told_of_the_failure(
    service: Running, upstream: respx.MockRouter, control: str
) -> None:
    await service.overview(POSTS)
    replace_route(upstream, "posts", BROKEN)
    response = await service.overview(POSTS, Cache_Control=control)
    assert (response.status_code, how(response)) == (502, ("posts; fwd=request", ""))


async def test_a_refresh_that_fails_is_one_line_of_the_log_and_nobodys_failure(
    upstream: respx.MockRouter, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(upstream, upstreams=KEPT) as service:
        await service.overview(POSTS)
        await asyncio.sleep(65)
        replace_route(upstream, "posts", BROKEN)
        response = await service.overview(POSTS, X_Request_ID="find-me")
        await asyncio.sleep(1)
    assert (response.status_code, how(response)) == (200, ("posts; hit; ttl=-5", "stale"))
    (line,) = (one for one in logged(capsys.readouterr().out) if one["event"] == "refresh failed")
    assert (line["upstream"], line["reason"]) == ("posts", "unreachable")
    assert (line["request_id"], line["level"]) == ("find-me", "warning")


async def test_a_refresh_does_not_outlive_the_service() -> None:
    upstream, hanging, before = healthy(), Hanging(), asyncio.all_tasks()
    async with running_service(upstream, upstreams=KEPT) as service:
        await service.overview(POSTS)
        await asyncio.sleep(65)
        replace_route(upstream, "posts", hanging)
        await service.overview(POSTS)
        await asyncio.sleep(0.1)
        assert len(hanging.asked) == 1
        assert asyncio.all_tasks() != before
    assert asyncio.all_tasks() == before


async def test_a_private_answer_is_nobody_elses(upstream: respx.MockRouter) -> None:
    private: Mapping[str, str] = {"Cache-Control": "private, max-age=60"}
    replace_route(upstream, "user", httpx.Response(200, json=USER, headers=private))
    async with running_service(upstream, upstreams=KEPT) as service:
        for _ in range(2):
            assert how(await service.overview("?include=user")) == ("users; fwd=miss", "")
    assert upstream["user"].call_count == 2
