"""The timeline of an answer (`?explain=true`): the spans of attempts, waits and cache hits."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import respx

from tests.api.simulated_upstreams import ok_response, simulated
from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    READ_TIMEOUT,
    STATUS_404,
    STATUS_500,
    Reply,
    body_of,
    every_upstream,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts&explain=true"
MIRRORS = "http://one.test,http://other.test"
EXPLAIN = {"explain": "on"}
OK = ok_response("posts", 7)
STATUS_503 = httpx.Response(503, headers={"Retry-After": "1"})

Span = tuple[str, int | None, str | None]


def spans(answer: Any) -> list[Span]:
    """Kind, mirror and outcome of each span. Checks what holds for every timeline."""
    timeline = answer["timeline"]
    starts = [span["start_ms"] for span in timeline]
    assert starts == sorted(starts)
    for span in timeline:
        assert span["section"] in ("user", "posts", "todos")
        assert (span["mirror"] is not None) == (span["kind"] == "attempt")
        assert (span["outcome"] is None) == (span["kind"] == "hedge")
        assert span["start_ms"] == span["end_ms"] or span["kind"] not in ("hedge", "cache")
    return [(span["kind"], span["mirror"], span["outcome"]) for span in timeline]


def times(answer: Any, kind: str) -> list[tuple[float, float]]:
    return [
        (span["start_ms"], span["end_ms"]) for span in answer["timeline"] if span["kind"] == kind
    ]


async def explained(upstream: respx.MockRouter, query: str = POSTS, **settings: Any) -> Any:
    async with running_service(upstream, **EXPLAIN, **settings) as service:
        await asyncio.sleep(5)  # the timeline counts from the arrival of the request
        return (await service.overview(query)).json()


class Replies:
    """One after the other, each after so many seconds."""

    def __init__(self, *replies: tuple[float, Reply]) -> None:
        self._replies = iter(replies)

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        seconds, reply = next(self._replies)
        await asyncio.sleep(seconds)
        if isinstance(reply, Exception):
            raise reply.with_traceback(None)
        return reply


@pytest.mark.parametrize(
    ("settings", "replies", "expected"),
    [
        ({}, [(0.1, OK)], [("attempt", 0, "ok")]),
        ({"retries": 0}, [(0.1, STATUS_500)], [("attempt", 0, "upstream_status")]),
        (
            {},
            [(0.1, CONNECT_ERROR), (0.1, OK)],
            [("attempt", 0, "unreachable"), ("backoff", None, "unreachable"), ("attempt", 0, "ok")],
        ),
        (
            {"urls": MIRRORS},
            [(0.1, READ_TIMEOUT), (0.1, STATUS_500), (0.1, OK)],
            [
                *(("attempt", 0, "timeout"), ("backoff", None, "timeout")),
                *(("attempt", 1, "upstream_status"), ("backoff", None, "upstream_status")),
                ("attempt", 0, "ok"),
            ],
        ),
        (  # a hedge overtakes the first attempt
            {"hedge": 0.2},
            [(9.0, OK), (0.1, OK)],
            [("hedge", None, None), ("attempt", 0, "cancelled"), ("attempt", 0, "ok")],
        ),
        (  # the first attempt fails, so the hedge does not wait for its delay
            {"hedge": 0.2, "urls": MIRRORS},
            [(0.1, CONNECT_ERROR), (0.1, OK)],
            [("hedge", None, None), ("attempt", 0, "unreachable"), ("attempt", 1, "ok")],
        ),
        (  # a race of two mirrors
            {"hedge": 0, "urls": MIRRORS},
            [(9.0, OK), (0.1, OK)],
            [("attempt", 0, "cancelled"), ("attempt", 1, "ok")],
        ),
    ],
)
async def test_the_timeline_has_each_attempt_retry_backoff_and_hedge(
    settings: Mapping[str, object], replies: list[tuple[float, Reply]], expected: list[Span]
) -> None:
    upstream = respx.MockRouter()
    upstream.route().mock(side_effect=Replies(*replies))
    posts = {"upstream_url": "http://one.test", "upstreams": {"posts": settings}}
    async with running_service(upstream, **posts, **EXPLAIN) as service:
        response = await service.overview(POSTS)
    answer = body_of(response, MODELS.answer if response.is_success else MODELS.failed)
    # In any order: attempts are measured by the wall clock, not by the virtual one.
    assert sorted(spans(answer)) == sorted(expected)
    for secret in (".test", "http", "/posts", "broken"):
        assert secret not in str(answer["timeline"])


async def test_the_backoff_before_a_retry_has_its_duration() -> None:
    answer = await explained(upstream_with(posts=Replies((0.1, STATUS_503), (0.1, OK))))
    assert times(answer, "backoff") == [(100.0, 1100.0)]
    assert [end for _, end in times(answer, "attempt")] == [100.0, 1200.0]


async def test_spans_of_cancelled_calls_end_with_the_answer() -> None:
    upstream = simulated(user=(0.1, STATUS_503), posts=(0.2, STATUS_500), todos=9.0)
    no_retries = {"posts": {"retries": 0}}
    answer = await explained(upstream, "?require=posts&explain=true", upstreams=no_retries)
    assert sorted(spans(answer)) == [
        ("attempt", 0, "cancelled"),
        *[("attempt", 0, "upstream_status")] * 2,
        ("backoff", None, "upstream_status"),
    ]
    assert times(answer, "backoff") == [(100.0, 200.0)]
    assert max(end for _, end in times(answer, "attempt")) == 200.0


@pytest.mark.parametrize(
    ("posts", "latency", "expected", "queue"),
    [
        (0.5, 0.0, [("queue", None, "ok"), ("attempt", 0, "ok")], (0.0, 300.0)),
        (None, 0.0, [("queue", None, "overloaded")], (0.0, 1000.0)),
        # Shed on arrival: by their latency, no attempt would complete in time.
        (None, 1.5, [("queue", None, "overloaded")], (0.0, 0.0)),
    ],
)
async def test_the_timeline_has_the_wait_for_a_permit(
    posts: float | None, latency: float, expected: list[Span], queue: tuple[float, float]
) -> None:
    one_permit = {"posts": {"concurrency": 1, "attempt_timeout": 60}}
    async with running_service(simulated(posts=posts), upstreams=one_permit, **EXPLAIN) as service:
        first = asyncio.create_task(service.get("/v1/users/8/overview?include=posts"))
        await asyncio.sleep(0.2)
        for _ in range(20 if latency else 0):
            service.state.upstreams["posts"].latency.add(latency)
        answer = (await service.overview(POSTS, X_Request_Timeout_Ms="1000")).json()
        await first
    assert spans(answer) == expected
    assert times(answer, "queue") == [queue]


async def test_the_timeline_has_the_wait_for_the_fan_out() -> None:
    upstream = simulated(user=0.1, posts=0.1, todos=0.1)
    answer = await explained(upstream, "?explain=true", fan_out=1)
    assert times(answer, "queue") == [(0.0, 100.0), (0.0, 200.0)]


async def test_the_timeline_has_a_cancelled_wait_for_a_permit() -> None:
    upstream = simulated(user=(0.1, STATUS_404), posts=0.5)
    async with running_service(
        upstream, upstreams={"posts": {"concurrency": 1}}, **EXPLAIN
    ) as service:
        first = asyncio.create_task(service.get("/v1/users/8/overview?include=posts"))
        await asyncio.sleep(0.2)
        answer = (await service.overview("?include=user,posts&explain=true")).json()
        await first
    assert sorted(spans(answer)) == [("attempt", 0, "not_found"), ("queue", None, "cancelled")]
    assert times(answer, "queue") == [(0.0, 100.0)]


async def test_the_timeline_has_a_cache_hit_and_a_stale_answer_at_the_moment_of_use() -> None:
    """The background refresh is not in it, though it ends before the answer is sent."""
    cacheable = ok_response("posts", 7, "max-age=10, stale-while-revalidate=10, stale-if-error=600")
    upstream = upstream_with(
        posts=Replies(*[(0.1, cacheable)] * 2, (0.1, READ_TIMEOUT)), todos=Replies(*[(0.3, OK)] * 4)
    )
    seen = list[list[Span]]()
    async with running_service(upstream, upstreams=every_upstream(retries=0), **EXPLAIN) as service:
        for pause in (0, 1, 10, 30):
            await asyncio.sleep(pause)
            answer = (await service.overview("?include=posts,todos&explain=true")).json()
            answer["timeline"] = [span for span in answer["timeline"] if span["section"] == "posts"]
            seen.append(spans(answer))
            assert times(answer, "cache") in ([], [(0.0, 0.0)], [(100.0, 100.0)])
    assert seen == [
        [("attempt", 0, "ok")],
        [("cache", None, "hit")],
        [("cache", None, "revalidating")],
        [("attempt", 0, "timeout"), ("cache", None, "stale")],
    ]


@pytest.mark.parametrize(
    ("reply", "outcome"), [(OK, "ok"), (STATUS_500, "upstream_status"), (READ_TIMEOUT, "timeout")]
)
async def test_the_attempt_of_a_coalesced_call_is_in_the_timeline_of_its_leader(
    reply: Reply, outcome: str
) -> None:
    upstream = simulated(posts=(0.5, reply))
    async with running_service(upstream, upstreams=every_upstream(retries=0), **EXPLAIN) as service:
        first = asyncio.create_task(service.overview(POSTS))
        await asyncio.sleep(0.2)
        second = await service.overview(POSTS)
        assert spans((await first).json()) == [("attempt", 0, outcome)]
    assert spans(second.json()) == [("shared", None, outcome)]
    assert times(second.json(), "shared") == [(0.0, 300.0)]


async def test_the_span_of_a_coalesced_call_ends_when_its_waiter_is_cancelled() -> None:
    upstream = simulated(user=(0.1, STATUS_404), posts=0.5)
    async with running_service(upstream, **EXPLAIN) as service:
        first = asyncio.create_task(service.overview(POSTS))
        await asyncio.sleep(0.2)
        answer = (await service.overview("?include=user,posts&explain=true")).json()
        assert (await first).json()["complete"] is True
    assert sorted(spans(answer)) == [("attempt", 0, "not_found"), ("shared", None, "cancelled")]
    assert times(answer, "shared") == [(0.0, 100.0)]


async def test_the_span_of_a_coalesced_call_ends_at_the_deadline_of_its_leader() -> None:
    """The leader has less time than the waiter."""
    upstream = upstream_with(posts=Replies((9.0, OK), (0.1, OK)))
    async with running_service(upstream, **EXPLAIN) as service:
        first = asyncio.create_task(service.overview(POSTS, X_Request_Timeout_Ms="300"))
        await asyncio.sleep(0.1)
        answer = (await service.overview(POSTS)).json()
        await first
    assert spans(answer) == [("shared", None, "timeout"), ("attempt", 0, "ok")]
    assert times(answer, "shared") == [(0.0, 200.0)]


def test_the_timeline_has_wall_clock_times() -> None:
    async def main() -> None:
        async with running_demo(demo_latency=0.03) as service:
            failing = {"X-Demo-Fault": "posts=failing"}
            response = await service.get("/v1/users/1/overview?explain=true", headers=failing)
        answer = response.json()
        for section, attempts in (("user", 1), ("posts", 3), ("todos", 1)):
            durations = [
                span["end_ms"] - span["start_ms"]
                for span in answer["timeline"]
                if (span["section"], span["kind"]) == (section, "attempt")
            ]
            assert len(durations) == attempts
            assert all(30 <= duration < 1000 for duration in durations)
        assert all(0 <= span["start_ms"] < 1000 for span in answer["timeline"])

    asyncio.run(main())
