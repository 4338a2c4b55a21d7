"""Retries, hedges, breakers and shedding, from the upstreams' answers to the client's."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.fakes import now
from tests.in_process import (
    BROKEN,
    BUSY,
    FAULTY,
    GARBAGE,
    LATE,
    MODELS,
    NAMES,
    ONCE,
    POST,
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
GOOD = httpx.Response(200, json=[POST])
Captured = pytest.CaptureFixture[str]


def one_after_the_other(*ends: End) -> Iterator[End]:
    """Each in its turn, and the last one for ever."""
    yield from ends
    while True:
        yield ends[-1]


def lines(capsys: Captured, event: str) -> list[dict[str, Any]]:
    return [line for line in logged(capsys.readouterr().out) if line["event"] == event]


def described(response: httpx.Response) -> str:
    return response.headers["server-timing"].split(", ")[0].partition(";desc=")[2].strip('"')


@pytest.mark.parametrize("end", [BROKEN, LATE, FAULTY, httpx.Response(408)])
async def test_what_failed_by_chance_is_tried_again(end: End, capsys: Captured) -> None:
    upstream = healthy()
    replace_route(upstream, "posts", one_after_the_other(end, GOOD))
    async with running_service(upstream) as service:
        response = await service.overview(POSTS, X_Request_ID="find-me")
    assert body_of(response, MODELS.answer)["complete"] is True
    assert described(response) == "retry"
    assert now() <= 0.025
    assert [call.request.headers["x-request-id"] for call in upstream["posts"].calls] == [
        "find-me"
    ] * 2
    written = logged(capsys.readouterr().out)
    assert [(line["event"], line["request_id"]) for line in written] == [
        ("attempt failed", "find-me"),
        ("retrying", "find-me"),
        ("request", "find-me"),
    ]
    assert (written[0]["attempt"], written[0]["mirror"]) == (1, 0)
    assert written[1]["in_ms"] <= 25


@pytest.mark.parametrize(
    ("end", "attempts"),
    [
        *((end, 3) for end in (BROKEN, LATE, FAULTY)),
        *((end, 1) for end in (GARBAGE, httpx.Response(403), httpx.Response(304))),
        (BUSY, 1),  # not before 7 s, and the client waits for 2
        (httpx.Response(429, headers={"Retry-After": "0"}), 3),
        (httpx.Response(503, headers={"Retry-After": "1"}), 2),
    ],
)
async def test_how_often_is_told(end: End, attempts: int) -> None:
    upstream = upstream_with(posts=end)
    async with running_service(upstream) as service:
        section = body_of(await service.overview(), MODELS.answer)["posts"]
    assert section["error"]["attempts"] == upstream["posts"].call_count == attempts
    assert section["error"]["detail"].endswith(f", {attempts} attempts") is (attempts > 1)


async def test_garbage_of_one_mirror_is_asked_for_at_another() -> None:
    upstream = healthy()
    upstream.get("http://a.test/posts?userId=7").respond(json="garbage")
    upstream.get("http://b.test/posts?userId=7").respond(json=[POST])
    mirrors = {"posts": {"urls": "http://a.test,http://b.test"}}
    async with running_service(upstream, upstreams=mirrors) as service:
        assert body_of(await service.overview(POSTS), MODELS.answer)["complete"] is True


async def test_with_a_spent_budget_nothing_is_tried_again(capsys: Captured) -> None:
    upstream = upstream_with(posts=BROKEN)
    async with running_service(upstream, upstreams={"posts": {"retry_budget": 0}}) as service:
        for _ in range(5):  # two extra attempts each: the reserve
            await service.overview(POSTS)
        assert lines(capsys, "retry budget spent") == []
        await service.overview(POSTS, X_Request_ID="find-me")
    (line,) = lines(capsys, "retry budget spent")
    assert (line["upstream"], line["request_id"], line["level"]) == ("posts", "find-me", "info")
    assert upstream["posts"].call_count == 5 * 3 + 1


@pytest.mark.parametrize("hedge", [0.05, 0])
async def test_a_late_mirror_is_raced_by_another(hedge: float) -> None:
    upstream = healthy()
    upstream.get("http://a.test/posts?userId=7").mock(side_effect=Hanging())
    upstream.get("http://b.test/posts?userId=7").respond(json=[POST])
    mirrors = {"posts": {"urls": "http://a.test,http://b.test", "hedge": hedge}}
    async with running_service(upstream, upstreams=mirrors) as service:
        response = await service.overview(POSTS)
        assert body_of(response, MODELS.answer)["complete"] is True
        assert now() == pytest.approx(hedge)
        # Both at once is no hedge but a race that its owner has ordered.
        assert described(response) == ("hedge" if hedge else "")
        assert service.service.upstreams["posts"].bulkhead.in_flight == 0


async def test_all_that_was_special_is_told_in_one_word_each() -> None:
    upstream = healthy()
    calls = 0

    async def first_broken_then_late(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.1 if calls < 4 else 0)
        return GOOD if calls > 3 else FAULTY

    replace_route(upstream, "posts", first_broken_then_late)
    async with running_service(upstream, upstreams={"posts": {"hedge": 0.05}}) as service:
        _, second = await asyncio.gather(*(service.overview(POSTS) for _ in range(2)))
    assert described(second) == "coalesced retry hedge"


async def test_an_upstream_that_keeps_failing_rests_and_is_tried_out_again(
    capsys: Captured,
) -> None:
    upstream = upstream_with(posts=FAULTY)
    async with running_service(upstream, upstreams=ONCE) as service:
        for _ in range(20):
            await service.overview(POSTS)
        (opened,) = lines(capsys, "breaker open")
        assert (opened["upstream"], opened["mirror"], opened["level"]) == ("posts", 0, "warning")
        response = await service.overview(POSTS)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        error = body_of(response, MODELS.failed)["sections"]["posts"]["error"]
        assert (error["reason"], error["attempts"]) == ("circuit_open", 0)
        assert 0 < error["retry_after"] <= 1
        whole = body_of(await service.overview(), MODELS.answer)
        assert [whole[name]["status"] for name in NAMES] == ["ok", "failed", "ok"]
        assert upstream["posts"].call_count == 20

        replace_route(upstream, "posts", GOOD)
        await asyncio.sleep(1)
        assert body_of(await service.overview(POSTS), MODELS.answer)["complete"] is True
    (closed,) = lines(capsys, "breaker closed")
    assert (closed["upstream"], closed["mirror"], closed["level"]) == ("posts", 0, "info")


async def test_however_many_fail_at_once_a_breaker_turns_once(capsys: Captured) -> None:
    upstream = healthy()

    async def failing(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return FAULTY

    replace_route(upstream, "posts", failing)
    async with running_service(
        upstream, upstreams=ONCE, forward_headers=("accept-language",)
    ) as service:
        asking = (service.overview(POSTS, Accept_Language=f"l{n}") for n in range(30))
        await asyncio.gather(*asking)
    assert len(lines(capsys, "breaker open")) == 1


CROWDED: dict[str, Any] = {
    "upstreams": each(concurrency=1, attempt_timeout=60, retries=0, ttl=600),
    "forward_headers": ("accept-language",),
}


@asynccontextmanager
async def congested(service: Running, *sections: str) -> AsyncIterator[None]:
    """One client has the one permit of each section's upstream, and another waits for it.

    Attempts take 1.5 s nowadays, so whoever comes has to wait for 3 s.
    """
    here = [
        asyncio.ensure_future(
            service.overview(
                f"?include={','.join(sections)}",
                Accept_Language=language,
                X_Request_Timeout_Ms="9000",
            )
        )
        for language in ("en", "nb")
    ]
    await asyncio.sleep(0.1)
    for name in sections:
        latency = service.service.upstreams["users" if name == "user" else name].latency
        for _ in range(20):
            latency.add(1.5)
    yield
    for task in here:
        assert not task.done()
        task.cancel()
    await asyncio.wait(here)


async def test_what_can_only_wait_in_vain_is_turned_away_on_arrival(capsys: Captured) -> None:
    hanging = Hanging()
    async with (
        running_service(
            upstream_with(user=hanging, posts=hanging, todos=hanging), **CROWDED
        ) as service,
        congested(service, *NAMES),
    ):
        began = now()
        response = await service.overview(
            Accept_Language="nn", X_Request_Timeout_Ms="5000", X_Request_ID="find-me"
        )
        assert now() == began
        assert response.status_code == 503
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["retry-after"] == "3"
        problem = body_of(response, MODELS.failed)
        assert problem["type"] == "/problems/overloaded"
        for name in NAMES:
            error = problem["sections"][name]["error"]
            assert (error["reason"], error["attempts"]) == ("overloaded", 0)
            assert error["retry_after"] == 3.0
        (line,) = lines(capsys, "request")
        assert (line["status"], line["request_id"]) == (503, "find-me")
        assert line["failed"] == dict.fromkeys(NAMES, "overloaded")
    assert len(hanging.asked) == 3


@pytest.mark.parametrize(("language", "milliseconds"), [("nn", "7000"), ("en", "1000")])
async def test_who_has_more_time_may_wait_and_who_asks_the_same_is_no_load(
    language: str, milliseconds: str
) -> None:
    hanging = Hanging()
    async with (
        running_service(
            upstream_with(user=hanging, posts=hanging, todos=hanging), **CROWDED
        ) as service,
        congested(service, *NAMES),
    ):
        asking = asyncio.ensure_future(
            service.overview(Accept_Language=language, X_Request_Timeout_Ms=milliseconds)
        )
        await asyncio.sleep(0.5)
        assert not asking.done()
        asking.cancel()
        await asyncio.wait([asking])


async def test_as_long_as_there_is_something_to_tell_nobody_is_turned_away() -> None:
    async with (
        running_service(upstream_with(posts=Hanging()), **CROWDED) as service,
        congested(service, "posts"),
    ):
        body = body_of(await service.overview(Accept_Language="nn"), MODELS.answer)
        assert [body[name]["status"] for name in NAMES] == ["ok", "failed", "ok"]
        assert body["posts"]["error"]["reason"] == "overloaded"


async def test_what_is_stored_is_served_in_any_crowd() -> None:
    upstream = healthy()
    async with running_service(upstream, **CROWDED) as service:
        await service.overview(Accept_Language="nn")
        for name in NAMES:
            replace_route(upstream, name, Hanging())
        async with congested(service, *NAMES):
            response = await service.overview(Accept_Language="nn")
            assert body_of(response, MODELS.answer)["complete"] is True
