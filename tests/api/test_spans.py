"""What a timeline tells: each situation has its spans."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import respx

from tests.api.folding import taking, well
from tests.in_process import (
    ABSENT,
    BROKEN,
    FAULTY,
    LATE,
    MODELS,
    End,
    body_of,
    each,
    running_demo,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

POSTS = "?include=posts&explain=true"
MIRRORS = "http://one.test,http://other.test"
EXPLAINED = {"explain": "on"}
GOOD = well("posts", 7)
AGAIN = httpx.Response(503, headers={"Retry-After": "1"})

Span = tuple[str, int | None, str | None]


def spans(answer: Any) -> list[Span]:
    """Kind, mirror and outcome of all that was done; what every timeline keeps to is kept to."""
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
    async with running_service(upstream, **EXPLAINED, **settings) as service:
        await asyncio.sleep(5)  # times are since the request arrived, not since anything else
        return (await service.overview(query)).json()


class Taking:
    """Posts that come after so many seconds, other ones each time."""

    def __init__(self, *fates: tuple[float, End]) -> None:
        self._fates = iter(fates)

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        seconds, end = next(self._fates)
        await asyncio.sleep(seconds)
        if isinstance(end, Exception):
            raise end.with_traceback(None)
        return end


@pytest.mark.parametrize(
    ("settings", "fates", "expected"),
    [
        ({}, [(0.1, GOOD)], [("attempt", 0, "ok")]),
        ({"retries": 0}, [(0.1, FAULTY)], [("attempt", 0, "upstream_status")]),
        (
            {},
            [(0.1, BROKEN), (0.1, GOOD)],
            [("attempt", 0, "unreachable"), ("backoff", None, "unreachable"), ("attempt", 0, "ok")],
        ),
        (
            {"urls": MIRRORS},
            [(0.1, LATE), (0.1, FAULTY), (0.1, GOOD)],
            [
                *(("attempt", 0, "timeout"), ("backoff", None, "timeout")),
                *(("attempt", 1, "upstream_status"), ("backoff", None, "upstream_status")),
                ("attempt", 0, "ok"),
            ],
        ),
        (  # the first one is late, and overtaken
            {"hedge": 0.2},
            [(9.0, GOOD), (0.1, GOOD)],
            [("hedge", None, None), ("attempt", 0, "cancelled"), ("attempt", 0, "ok")],
        ),
        (  # the first one fails, so nobody waits for it to be late
            {"hedge": 0.2, "urls": MIRRORS},
            [(0.1, BROKEN), (0.1, GOOD)],
            [("hedge", None, None), ("attempt", 0, "unreachable"), ("attempt", 1, "ok")],
        ),
        (  # a race
            {"hedge": 0, "urls": MIRRORS},
            [(9.0, GOOD), (0.1, GOOD)],
            [("attempt", 0, "cancelled"), ("attempt", 1, "ok")],
        ),
    ],
)
async def test_each_attempt_is_there_and_what_lies_between(
    settings: Mapping[str, object], fates: list[tuple[float, End]], expected: list[Span]
) -> None:
    upstream = respx.MockRouter()
    upstream.route().mock(side_effect=Taking(*fates))
    given = {"upstream_url": "http://one.test", "upstreams": {"posts": settings}}
    async with running_service(upstream, **given, **EXPLAINED) as service:
        response = await service.overview(POSTS)
    answer = body_of(response, MODELS.answer if response.is_success else MODELS.failed)
    # How long an attempt took is told by another clock than the one that runs here.
    assert sorted(spans(answer)) == sorted(expected)
    for secret in (".test", "http", "/posts", "broken"):
        assert secret not in str(answer["timeline"])


async def test_a_pause_before_a_retry_has_its_length() -> None:
    answer = await explained(upstream_with(posts=Taking((0.1, AGAIN), (0.1, GOOD))))
    assert times(answer, "backoff") == [(100.0, 1100.0)]
    assert [end for _, end in times(answer, "attempt")] == [100.0, 1200.0]


async def test_what_was_given_up_ends_with_the_answer() -> None:
    upstream = taking(user=(0.1, AGAIN), posts=(0.2, FAULTY), todos=9.0)
    once = {"posts": {"retries": 0}}
    answer = await explained(upstream, "?require=posts&explain=true", upstreams=once)
    assert sorted(spans(answer)) == [
        ("attempt", 0, "cancelled"),
        *[("attempt", 0, "upstream_status")] * 2,
        ("backoff", None, "upstream_status"),
    ]
    assert times(answer, "backoff") == [(100.0, 200.0)]
    assert max(end for _, end in times(answer, "attempt")) == 200.0


@pytest.mark.parametrize(
    ("posts", "took", "expected", "waited"),
    [
        (0.5, 0.0, [("queue", None, "ok"), ("attempt", 0, "ok")], (0.0, 300.0)),
        (None, 0.0, [("queue", None, "overloaded")], (0.0, 1000.0)),
        # Turned away on arrival: attempts are known to take too long.
        (None, 1.5, [("queue", None, "overloaded")], (0.0, 0.0)),
    ],
)
async def test_whoever_waits_for_a_permit_can_see_it(
    posts: float | None, took: float, expected: list[Span], waited: tuple[float, float]
) -> None:
    scarce = {"posts": {"concurrency": 1, "attempt_timeout": 60}}
    async with running_service(taking(posts=posts), upstreams=scarce, **EXPLAINED) as service:
        first = asyncio.create_task(service.get("/v1/users/8/overview?include=posts"))
        await asyncio.sleep(0.2)
        for _ in range(20 if took else 0):
            service.service.upstreams["posts"].latency.add(took)
        answer = (await service.overview(POSTS, X_Request_Timeout_Ms="1000")).json()
        await first
    assert spans(answer) == expected
    assert times(answer, "queue") == [waited]


async def test_whoever_waits_behind_another_section_can_see_it() -> None:
    upstream = taking(user=0.1, posts=0.1, todos=0.1)
    answer = await explained(upstream, "?explain=true", fan_out=1)
    assert times(answer, "queue") == [(0.0, 100.0), (0.0, 200.0)]


async def test_whoever_gives_up_waiting_can_be_seen() -> None:
    upstream = taking(user=(0.1, ABSENT), posts=0.5)
    async with running_service(
        upstream, upstreams={"posts": {"concurrency": 1}}, **EXPLAINED
    ) as service:
        first = asyncio.create_task(service.get("/v1/users/8/overview?include=posts"))
        await asyncio.sleep(0.2)
        answer = (await service.overview("?include=user,posts&explain=true")).json()
        await first
    assert sorted(spans(answer)) == [("attempt", 0, "not_found"), ("queue", None, "cancelled")]
    assert times(answer, "queue") == [(0.0, 100.0)]


async def test_what_was_stored_is_told_in_the_moment_of_its_use() -> None:
    """What is done for others' sake is not, though it ends before this answer does."""
    kept = well("posts", 7, "max-age=10, stale-while-revalidate=10, stale-if-error=600")
    upstream = upstream_with(
        posts=Taking(*[(0.1, kept)] * 2, (0.1, LATE)), todos=Taking(*[(0.3, GOOD)] * 4)
    )
    seen = list[list[Span]]()
    async with running_service(upstream, upstreams=each(retries=0), **EXPLAINED) as service:
        for pause in (0, 1, 10, 30):
            await asyncio.sleep(pause)
            answer = (await service.overview("?include=posts,todos&explain=true")).json()
            answer["timeline"] = [one for one in answer["timeline"] if one["section"] == "posts"]
            seen.append(spans(answer))
            assert times(answer, "cache") in ([], [(0.0, 0.0)], [(100.0, 100.0)])
    assert seen == [
        [("attempt", 0, "ok")],
        [("cache", None, "hit")],
        [("cache", None, "revalidating")],
        [("attempt", 0, "timeout"), ("cache", None, "stale")],
    ]


@pytest.mark.parametrize(
    ("end", "outcome"), [(GOOD, "ok"), (FAULTY, "upstream_status"), (LATE, "timeout")]
)
async def test_a_call_that_is_shared_is_shown_to_the_one_that_began_it(
    end: End, outcome: str
) -> None:
    upstream = taking(posts=(0.5, end))
    async with running_service(upstream, upstreams=each(retries=0), **EXPLAINED) as service:
        first = asyncio.create_task(service.overview(POSTS))
        await asyncio.sleep(0.2)
        second = await service.overview(POSTS)
        assert spans((await first).json()) == [("attempt", 0, outcome)]
    assert spans(second.json()) == [("shared", None, outcome)]
    assert times(second.json(), "shared") == [(0.0, 300.0)]


async def test_a_shared_call_that_is_given_up_ends_there() -> None:
    upstream = taking(user=(0.1, ABSENT), posts=0.5)
    async with running_service(upstream, **EXPLAINED) as service:
        first = asyncio.create_task(service.overview(POSTS))
        await asyncio.sleep(0.2)
        answer = (await service.overview("?include=user,posts&explain=true")).json()
        assert (await first).json()["complete"] is True
    assert sorted(spans(answer)) == [("attempt", 0, "not_found"), ("shared", None, "cancelled")]
    assert times(answer, "shared") == [(0.0, 100.0)]


async def test_a_shared_call_ends_where_it_is_left_for_another() -> None:
    """The one that began it had less time."""
    upstream = upstream_with(posts=Taking((9.0, GOOD), (0.1, GOOD)))
    async with running_service(upstream, **EXPLAINED) as service:
        first = asyncio.create_task(service.overview(POSTS, X_Request_Timeout_Ms="300"))
        await asyncio.sleep(0.1)
        answer = (await service.overview(POSTS)).json()
        await first
    assert spans(answer) == [("shared", None, "timeout"), ("attempt", 0, "ok")]
    assert times(answer, "shared") == [(0.0, 200.0)]


def test_times_are_those_of_the_clock_on_the_wall() -> None:
    async def main() -> None:
        async with running_demo(demo_latency=0.03) as service:
            failing = {"X-Demo-Fault": "posts=failing"}
            response = await service.get("/v1/users/1/overview?explain=true", headers=failing)
        answer = response.json()
        for section, attempts in (("user", 1), ("posts", 3), ("todos", 1)):
            took = [
                span["end_ms"] - span["start_ms"]
                for span in answer["timeline"]
                if (span["section"], span["kind"]) == (section, "attempt")
            ]
            assert len(took) == attempts
            assert all(30 <= one < 1000 for one in took)
        assert all(0 <= span["start_ms"] < 1000 for span in answer["timeline"])

    asyncio.run(main())
