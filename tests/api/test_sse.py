"""The overview as server-sent events: which come when, their headers, and the log."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest
import respx

from app.problems.responses import InvalidRequest, Problem
from tests.api.simulated_upstreams import simulated
from tests.api.stream_client import SSE, StreamedResponse, fold, parse_sse, stream
from tests.fakes import leaving_nothing
from tests.in_process import (
    CONNECT_ERROR,
    PATH,
    READ_TIMEOUT,
    STATUS_404,
    STATUS_429,
    STATUS_500,
    WRONG_SHAPE,
    Reply,
    ServiceClient,
    body_of,
    every_upstream,
    log_lines,
    replace_route,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

STATUS_403 = httpx.Response(403)
BUG = ZeroDivisionError("a bug of ours")


async def streamed(
    upstream: respx.MockRouter, query: str = "", headers: Mapping[str, str] = {}
) -> StreamedResponse:
    long_attempts = every_upstream(attempt_timeout=60, retries=0)
    async with running_service(upstream, upstreams=long_attempts) as service, leaving_nothing():
        return await stream(service, PATH + query, SSE, headers)


async def test_sse_sends_each_section_when_it_completes() -> None:
    response = await streamed(simulated(user=0.3, posts=0.1, todos=0.2))
    assert response.completions == [(0.1, "posts"), (0.2, "todos"), (0.3, "user"), (0.3, "done")]
    assert (response.ended, response.raised) == (True, None)


async def test_sse_sends_excluded_sections_first_and_cancelled_ones_last() -> None:
    upstream = simulated(user=0.3, posts=(0.1, STATUS_500))
    response = await streamed(upstream, "?include=posts,user&require=posts")
    assert response.completions == [(0.0, "todos"), (0.1, "posts"), (0.1, "user"), (0.1, "done")]
    statuses = [data.get("section", {}).get("status") for _, (_, data) in response.timed_events]
    assert statuses == ["skipped", "failed", "skipped", None]


async def test_sse_keeps_sections_that_completed_before_a_404() -> None:
    response = await streamed(simulated(user=(0.2, STATUS_404), posts=0.1, todos=0.3))
    assert response.completions == [(0.1, "posts"), (0.2, "user"), (0.2, "todos"), (0.2, "done")]
    assert [data["section"]["status"] for _, (_, data) in response.timed_events[:3]] == [
        *("ok", "failed", "skipped")
    ]


async def test_sse_sends_cached_sections_at_once() -> None:
    upstream = simulated(user=0.3, todos=0.2)
    async with running_service(upstream, upstreams={"posts": {"ttl": 60}}) as service:
        await service.overview("?include=posts")
        response = await stream(service, PATH, SSE)
    assert response.completions == [(0.0, "posts"), (0.2, "todos"), (0.3, "user"), (0.3, "done")]


@pytest.mark.parametrize(
    ("sections", "heartbeats", "done"),
    [
        ({}, [], 0.0),
        ({"user": 0.9, "posts": 1.8, "todos": 2.7}, [], 2.7),
        ({"user": 1.1, "posts": 2.0, "todos": 3.2}, [1.0, 3.0], 3.2),
        ({"user": 1.5, "posts": 1.5, "todos": None}, [1.0, 2.5, 3.5], 4.4),
    ],
)
async def test_sse_sends_a_heartbeat_after_each_second_of_silence(
    sections: Mapping[str, float | None], heartbeats: list[float], done: float
) -> None:
    response = await streamed(simulated(**sections), headers={"X-Request-Timeout-Ms": "4400"})
    comments = [round(when, 3) for when, (name, _) in response.timed_events if name == ":"]
    assert comments == heartbeats
    assert response.completions[-1] == (done, "done")
    fold(parse_sse(response.text))  # comments are ignored


@pytest.mark.parametrize(
    ("replies", "query", "status", "reason"),
    [
        ({"user": STATUS_404}, "", 404, "not_found"),
        ({"user": STATUS_404}, "?require=posts", 404, "not_found"),
        ({"posts": CONNECT_ERROR}, "?require=posts", 502, "unreachable"),
        ({"todos": STATUS_429}, "?require=todos,posts", 503, "overloaded"),
        ({"posts": READ_TIMEOUT}, "?include=posts", 504, "timeout"),
        ({"user": WRONG_SHAPE, "posts": STATUS_429, "todos": STATUS_500}, "", 503, "overloaded"),
    ],
)
async def test_sse_of_a_failed_answer_is_a_200_whose_done_event_has_the_status(
    replies: Mapping[str, Reply], query: str, status: int, reason: str
) -> None:
    response = await streamed(upstream_with(**replies), query)
    assert response.status == 200
    done_status, problem = fold(parse_sse(response.text))
    assert done_status == problem["status"] == status
    assert problem["type"] == f"/problems/{reason}"
    assert problem["instance"] == PATH
    assert ("sections" in problem) == (status != 404)


@pytest.mark.parametrize(
    ("headers", "seconds"), [({}, 2.0), ({"X-Request-Timeout-Ms": "300"}, 0.3)]
)
async def test_sse_sends_its_last_event_by_the_deadline(
    headers: Mapping[str, str], seconds: float
) -> None:
    response = await streamed(simulated(user=None, posts=None, todos=None), headers=headers)
    assert {when for when, name in response.completions} == {seconds}
    status, problem = fold(parse_sse(response.text))
    assert status == 504
    assert {section["error"]["reason"] for section in problem["sections"].values()} == {"timeout"}


async def test_sse_headers_forbid_caching_and_proxy_buffering() -> None:
    upstream = simulated()
    async with running_service(
        upstream, upstreams=every_upstream(ttl=60), forward_headers=("a-b",)
    ) as service:
        json_response = await service.overview()
        # The ETag of the JSON response does not match a stream.
        response = await service.overview(Accept=SSE, If_None_Match=json_response.headers["etag"])
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert (
        response.headers["vary"] == json_response.headers["vary"] == "Accept, a-b, Accept-Encoding"
    )
    assert not {"etag", "content-length", "content-encoding"} & set(response.headers)
    assert len(response.headers.get_list("x-request-id")) == 1
    assert "content-security-policy" in response.headers


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
async def test_an_invalid_sse_request_is_a_422_and_no_stream(
    service: ServiceClient, upstream: respx.MockRouter, path: str, headers: Mapping[str, str]
) -> None:
    response = await service.get(path, headers={"Accept": SSE, **headers})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert body_of(response, InvalidRequest)["errors"]
    assert not upstream.calls


@pytest.mark.parametrize(
    ("replies", "query", "complete", "failed", "stale"),
    [
        ({}, "", True, {}, []),
        ({"posts": STATUS_403}, "", False, {"posts": "upstream_status"}, []),
        (
            {"posts": STATUS_403, "todos": READ_TIMEOUT},
            "",
            False,
            {"posts": "upstream_status"},
            ["todos"],
        ),
        ({"posts": STATUS_403}, "?require=posts", False, {"posts": "upstream_status"}, []),
    ],
)
async def test_the_log_line_of_sse_has_the_fields_of_the_json_answer(
    replies: Mapping[str, Reply],
    query: str,
    complete: bool,
    failed: Mapping[str, str],
    stale: list[str],
    upstream: respx.MockRouter,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running_service(
        upstream, upstreams=every_upstream(ttl=1, stale_if_error=60, retries=0)
    ) as service:
        await service.overview()
        await asyncio.sleep(2)
        for name, reply in replies.items():
            replace_route(upstream, name, reply)
        await service.overview(query, Accept=SSE)
    line = log_lines(capsys)[-1]
    assert (line["event"], line["status"], line["path"]) == ("request", 200, PATH)
    assert (line["complete"], line["failed"], line["stale"]) == (complete, failed, stale)


async def test_a_bug_ends_sse_with_a_500_event_and_a_broken_connection_and_is_logged_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    response = await streamed(
        simulated(user=0.1, posts=(0.2, BUG), todos=None), headers={"X-Request-ID": "find-me"}
    )
    assert response.completions == [(0.1, "user"), (0.2, "done")]
    assert (response.raised, response.ended) == (BUG, False)
    (_, done) = parse_sse(response.text)[-1]
    assert (done["complete"], done["status"]) == (False, 500)
    problem = Problem.model_validate(done["error"])
    assert (problem.type, problem.status) == ("/problems/internal_error", 500)
    assert "bug of ours" not in response.text

    *_, error, request = log_lines(capsys)
    assert (error["level"], error["request_id"]) == ("error", "find-me")
    assert "ZeroDivisionError: a bug of ours" in error["exception"]
    assert (request["event"], request["request_id"]) == ("request", "find-me")


@pytest.mark.parametrize("query", ["", "?include=posts", "?require=posts"])
async def test_the_sse_error_of_a_bug_is_the_problem_of_the_json_answer(
    query: str,
) -> None:
    async with running_service(upstream_with(posts=BUG)) as service:
        json_response = await service.overview(query)
        response = await stream(service, PATH + query, SSE)
    (_, done) = parse_sse(response.text)[-1]
    assert (done["status"], done["error"]) == (json_response.status_code, json_response.json())


async def test_only_done_has_an_id_and_the_reconnection_time_is_told_once() -> None:
    response = await streamed(simulated(user=0.3, posts=3.5, todos=0.2), "?include=user,posts")
    lines = response.text.splitlines()
    assert lines[0].startswith("retry: ")
    assert [line for line in lines if line.startswith("retry: ")] == lines[:1]
    assert [line for line in lines if line.startswith("id: ")] == ["id: done"]
    assert lines.index("id: done") > lines.index("event: done")


@pytest.mark.parametrize(("last", "status"), [("done", 204), ("", 200), ("other", 200)])
async def test_an_event_source_that_comes_back_after_done_is_ended(last: str, status: int) -> None:
    upstream = simulated()
    async with running_service(upstream) as service:
        headers = {"Accept": SSE, "Last-Event-ID": last}
        response = await service.get(PATH, headers=headers)
    assert response.status_code == status
    assert bool(response.content) is (status == 200)
    assert bool(upstream.calls) is (status == 200)


async def test_json_does_not_care_for_the_last_event(service: ServiceClient) -> None:
    assert (await service.overview(Last_Event_ID="done")).status_code == 200
