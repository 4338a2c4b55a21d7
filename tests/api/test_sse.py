"""The overview as events: what comes when, and what is said of it elsewhere."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
import respx

from app.problems.responses import InvalidRequest, Problem
from tests.api.folding import EVENTS, Followed, fold, follow, parsed, taking
from tests.fakes import leaving_nothing
from tests.in_process import (
    ABSENT,
    BROKEN,
    BUSY,
    FAULTY,
    GARBAGE,
    LATE,
    PATH,
    End,
    Running,
    body_of,
    each,
    logged,
    replace_route,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

FORBIDDEN = httpx.Response(403)
BUG = ZeroDivisionError("a bug of ours")


async def streamed(
    upstream: respx.MockRouter, query: str = "", headers: Mapping[str, str] = {}
) -> Followed:
    patient = each(attempt_timeout=60, retries=0)
    async with running_service(upstream, upstreams=patient) as service, leaving_nothing():
        return await follow(service, PATH + query, EVENTS, headers)


async def test_each_section_comes_when_it_lands() -> None:
    answer = await streamed(taking(user=0.3, posts=0.1, todos=0.2))
    assert answer.landed == [(0.1, "posts"), (0.2, "todos"), (0.3, "user"), (0.3, "done")]
    assert (answer.ended, answer.raised) == (True, None)


async def test_what_is_not_wanted_comes_first_and_what_is_given_up_last() -> None:
    upstream = taking(user=0.3, posts=(0.1, FAULTY))
    answer = await streamed(upstream, "?include=posts,user&require=posts")
    assert answer.landed == [(0.0, "todos"), (0.1, "posts"), (0.1, "user"), (0.1, "done")]
    sections = [one.get("section", {}).get("status") for _, (_, one) in answer.timed]
    assert sections == ["skipped", "failed", "skipped", None]


async def test_what_landed_before_the_decision_is_kept() -> None:
    answer = await streamed(taking(user=(0.2, ABSENT), posts=0.1, todos=0.3))
    assert answer.landed == [(0.1, "posts"), (0.2, "user"), (0.2, "todos"), (0.2, "done")]
    assert [one["section"]["status"] for _, (_, one) in answer.timed[:3]] == [
        *("ok", "failed", "skipped")
    ]


async def test_what_is_stored_comes_at_once() -> None:
    upstream = taking(user=0.3, todos=0.2)
    async with running_service(upstream, upstreams={"posts": {"ttl": 60}}) as service:
        await service.overview("?include=posts")
        answer = await follow(service, PATH, EVENTS)
    assert answer.landed == [(0.0, "posts"), (0.2, "todos"), (0.3, "user"), (0.3, "done")]


@pytest.mark.parametrize(
    ("sections", "pings", "done"),
    [
        ({}, [], 0.0),
        ({"user": 0.9, "posts": 1.8, "todos": 2.7}, [], 2.7),
        ({"user": 1.1, "posts": 2.0, "todos": 3.2}, [1.0, 3.0], 3.2),
        ({"user": 1.5, "posts": 1.5, "todos": None}, [1.0, 2.5, 3.5], 4.4),
    ],
)
async def test_each_second_of_silence_ends_with_a_word(
    sections: Mapping[str, float | None], pings: list[float], done: float
) -> None:
    answer = await streamed(taking(**sections), headers={"X-Request-Timeout-Ms": "4400"})
    heard = [round(when, 3) for when, (name, _) in answer.timed if name == ":"]
    assert heard == pings
    assert answer.landed[-1] == (done, "done")
    fold(parsed(answer.text))  # which comments do not disturb


@pytest.mark.parametrize(
    ("ends", "query", "status", "reason"),
    [
        ({"user": ABSENT}, "", 404, "not_found"),
        ({"user": ABSENT}, "?require=posts", 404, "not_found"),
        ({"posts": BROKEN}, "?require=posts", 502, "unreachable"),
        ({"todos": BUSY}, "?require=todos,posts", 503, "overloaded"),
        ({"posts": LATE}, "?include=posts", 504, "timeout"),
        ({"user": GARBAGE, "posts": BUSY, "todos": FAULTY}, "", 503, "overloaded"),
    ],
)
async def test_a_failure_of_the_whole_is_a_200_whose_end_says_so(
    ends: Mapping[str, End], query: str, status: int, reason: str
) -> None:
    answer = await streamed(upstream_with(**ends), query)
    assert answer.status == 200
    told_status, problem = fold(parsed(answer.text))
    assert told_status == problem["status"] == status
    assert problem["type"] == f"/problems/{reason}"
    assert problem["instance"] == PATH
    assert ("sections" in problem) == (status != 404)


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, 2.0), ({"X-Request-Timeout-Ms": "300"}, 0.3)]
)
async def test_the_last_event_is_out_by_the_deadline(
    headers: Mapping[str, str], seconds: float
) -> None:
    answer = await streamed(taking(user=None, posts=None, todos=None), headers=headers)
    assert {when for when, name in answer.landed} == {seconds}
    status, problem = fold(parsed(answer.text))
    assert status == 504
    assert {one["error"]["reason"] for one in problem["sections"].values()} == {"timeout"}


async def test_it_is_not_for_keeping_nor_for_a_proxy_to_collect() -> None:
    upstream = taking()
    async with running_service(
        upstream, upstreams=each(ttl=60), forward_headers=("a-b",)
    ) as service:
        whole = await service.overview()
        # What is known of the JSON answer says nothing of a stream.
        answer = await service.overview(Accept=EVENTS, If_None_Match=whole.headers["etag"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["vary"] == whole.headers["vary"] == "Accept, a-b"
    assert not {"etag", "content-length", "content-encoding"} & set(answer.headers)
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (f"{PATH}?include=friends", {}),
        (f"{PATH}?include=posts&require=user", {}),
        (f"{PATH}?explain=yes", {}),
        ("/v1/users/0/overview", {}),
        (PATH, {"X-Request-Timeout-Ms": "soon"}),
    ],
)
async def test_what_is_wrong_is_refused_before_anything_streams(
    service: Running, upstream: respx.MockRouter, path: str, headers: Mapping[str, str]
) -> None:
    answer = await service.get(path, headers={"Accept": EVENTS, **headers})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert body_of(answer, InvalidRequest)["errors"]
    assert not upstream.calls


@pytest.mark.parametrize(
    ("ends", "query", "complete", "failed", "stale"),
    [
        ({}, "", True, {}, []),
        ({"posts": FORBIDDEN}, "", False, {"posts": "upstream_status"}, []),
        ({"posts": FORBIDDEN, "todos": LATE}, "", False, {"posts": "upstream_status"}, ["todos"]),
        ({"posts": FORBIDDEN}, "?require=posts", False, {"posts": "upstream_status"}, []),
    ],
)
async def test_the_log_has_of_a_stream_what_it_has_of_the_json(
    ends: Mapping[str, End],
    query: str,
    complete: bool,
    failed: Mapping[str, str],
    stale: list[str],
    upstream: respx.MockRouter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running_service(
        upstream, upstreams=each(ttl=1, stale_if_error=60, retries=0)
    ) as service:
        await service.overview()
        await asyncio.sleep(2)
        for name, end in ends.items():
            replace_route(upstream, name, end)
        await service.overview(query, Accept=EVENTS)
    line = logged(capsys.readouterr().out)[-1]
    assert (line["event"], line["status"], line["path"]) == ("request", 200, PATH)
    assert (line["complete"], line["failed"], line["stale"]) == (complete, failed, stale)


async def test_a_bug_is_told_as_a_500_then_the_connection_breaks_and_the_log_has_it_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = await streamed(
        taking(user=0.1, posts=(0.2, BUG), todos=None), headers={"X-Request-ID": "find-me"}
    )
    assert answer.landed == [(0.1, "user"), (0.2, "done")]
    assert (answer.raised, answer.ended) == (BUG, False)
    (_, done) = parsed(answer.text)[-1]
    assert (done["complete"], done["status"]) == (False, 500)
    problem = Problem.model_validate(done["error"])
    assert (problem.type, problem.status) == ("/problems/internal_error", 500)
    assert "bug of ours" not in answer.text

    *_, error, request = logged(capsys.readouterr().out)
    assert (error["level"], error["request_id"]) == ("error", "find-me")
    assert "ZeroDivisionError: a bug of ours" in error["exception"]
    assert (request["event"], request["request_id"]) == ("request", "find-me")


@pytest.mark.parametrize("query", ["", "?include=posts", "?require=posts"])
async def test_what_a_bug_leaves_to_tell_is_what_the_json_answer_would_have_been(
    query: str,
) -> None:
    async with running_service(upstream_with(posts=BUG)) as service:
        whole = await service.overview(query)
        answer = await follow(service, PATH + query, EVENTS)
    (_, done) = parsed(answer.text)[-1]
    assert (done["status"], done["error"]) == (whole.status_code, whole.json())
