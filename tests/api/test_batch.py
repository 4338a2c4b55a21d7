"""The batch of overviews, as JSON and as NDJSON."""

import asyncio
import json
import re
from collections.abc import Mapping

import httpx
import pytest
import respx

from app.problems.responses import InvalidRequest, Problem
from tests.api.simulated_upstreams import SimulatedUpstreams, ok_response, routed
from tests.api.stream_client import JSON, NDJSON, stream
from tests.fakes import leaving_nothing, now
from tests.in_process import (
    CONNECT_ERROR,
    MODELS,
    NO_RETRIES,
    SECTIONS,
    STATUS_404,
    STATUS_500,
    Reply,
    ServiceClient,
    body_of,
    every_upstream,
    log_lines,
    running_demo,
    running_service,
    validated,
)

pytestmark = pytest.mark.anyio

BUG = ZeroDivisionError("a bug of ours")

json_and_ndjson = pytest.mark.parametrize("accept", [JSON, NDJSON])


def of(*users: int, query: str = "") -> str:
    """The target of a batch."""
    return "/v1/overviews?" + "&".join([*(f"user_id={user}" for user in users), query]).strip("&")


async def test_batch_items_are_in_request_order_and_repeated_ids_are_one() -> None:
    upstreams = SimulatedUpstreams()
    async with running_service(upstreams.router) as service:
        response = await service.get(of(9, 2, 9, 5, 2))
    assert response.headers["content-type"] == "application/json"
    batch = body_of(response, MODELS.batch)
    assert batch["complete"] is True
    assert [(item["user_id"], item["status"]) for item in batch["items"]] == [
        *((9, "ok"), (2, "ok"), (5, "ok"))
    ]
    assert [item["overview"]["user"]["data"]["id"] for item in batch["items"]] == [9, 2, 5]
    assert sorted(user for _, _, user in upstreams.requests) == [2, 2, 2, 5, 5, 5, 9, 9, 9]


async def test_ndjson_batch_items_are_sent_in_the_order_of_completion() -> None:
    upstreams = SimulatedUpstreams(posts_1=0.3, todos_2=0.1, user_3=(0.2, STATUS_404), user_4=0.25)
    async with running_service(upstreams.router) as service:
        response = await stream(service, of(1, 2, 3, 4), NDJSON)
        batch = await service.get(of(1, 2, 3, 4))
    items = [(round(when, 3), json.loads(line)) for when, line in response.chunks]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for _, line in response.chunks)
    assert [(when, item["user_id"]) for when, item in items] == [
        *((0.1, 2), (0.2, 3), (0.25, 4), (0.3, 1))
    ]
    for _, item in items:
        validated(item, MODELS.item)
    assert response.ended
    assert response.headers["content-type"] == NDJSON
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["vary"] == batch.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.parametrize(("settings", "batch_max"), [({}, 100), ({"batch_max": 2}, 2)])
@json_and_ndjson
async def test_batch_max_limits_the_distinct_ids(
    settings: Mapping[str, int], batch_max: int, accept: str
) -> None:
    async with running_service(SimulatedUpstreams().router, **settings) as service:
        users = [*range(1, batch_max + 1)]
        headers = {"Accept": accept}
        assert (await service.get(of(*users, *users), headers=headers)).status_code == 200
        assert invalid_parameters(
            await service.get(of(*users, batch_max + 1), headers=headers)
        ) == ["user_id"]


@json_and_ndjson
@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", ["user_id"]),
        *(
            (f"user_id=1&user_id={bad}", ["user_id"])
            for bad in ("", "0", "-1", "x", "1,", "1,x", "1.0")
        ),
        *((f"user_id={bad}&user_id=1", ["user_id"]) for bad in ("01", "%2B1", "1e3", str(2**53))),
        ("user_id=1&include=friends", ["include"]),
        ("user_id=1&include=", ["include"]),
        ("user_id=1&include=posts&require=user", ["require"]),
        ("user_id=x&include=x&require=x", ["user_id", "include", "require"]),
    ],
)
async def test_an_invalid_batch_parameter_is_a_422_that_names_it(
    query: str, parameters: list[str], accept: str
) -> None:
    upstreams = SimulatedUpstreams()
    async with running_service(upstreams.router) as service:
        response = await service.get(f"/v1/overviews?{query}", headers={"Accept": accept})
    assert invalid_parameters(response) == parameters
    assert not upstreams.requests


async def test_an_invalid_batch_timeout_is_a_422(service: ServiceClient) -> None:
    response = await service.get(of(7), headers={"X-Request-Timeout-Ms": "soon"})
    assert [name.lower() for name in invalid_parameters(response)] == ["x-request-timeout-ms"]


def invalid_parameters(response: httpx.Response) -> list[str]:
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = body_of(response, InvalidRequest)
    assert problem["instance"] == "/v1/overviews"
    return [error["parameter"] for error in problem["errors"]]


async def test_include_and_require_hold_for_every_batch_item() -> None:
    upstreams = SimulatedUpstreams(posts_2=(0.0, CONNECT_ERROR))
    async with running_service(upstreams.router, upstreams=NO_RETRIES) as service:
        response = await service.get(of(1, 2, query="include=user,posts&require=posts"))
    first, second = body_of(response, MODELS.batch)["items"]
    assert first["overview"]["todos"] == second["error"]["sections"]["todos"]
    assert first["overview"]["todos"] == {"status": "skipped"}
    assert first["overview"]["complete"] is True
    assert (second["status"], second["error"]["status"]) == ("failed", 502)
    assert {section for _, section, _ in upstreams.requests} == {"user", "posts"}


async def test_a_batch_item_fails_alone() -> None:
    upstreams = SimulatedUpstreams(
        user_1=(0.1, STATUS_404), posts_1=9.0, todos_1=0.05, posts_2=0.3, posts_3=(0.2, STATUS_500)
    )
    async with running_service(upstreams.router, upstreams=NO_RETRIES) as service:
        response = await service.get(of(1, 2, 3))
    assert (response.status_code, response.headers["x-complete"]) == (200, "false")
    batch = body_of(response, MODELS.batch)
    assert batch["complete"] is False
    missing, complete, partial = batch["items"]
    assert (missing["status"], missing["error"]["status"]) == ("failed", 404)
    assert missing["error"]["instance"] == "/v1/users/1/overview"
    assert (complete["status"], complete["overview"]["complete"]) == ("ok", True)
    assert (partial["status"], partial["overview"]["complete"]) == ("ok", False)
    # Only the sibling call of the missing user was cancelled.
    assert upstreams.cancelled == [(0.1, "posts", 1)]
    assert now() == pytest.approx(0.3)


@json_and_ndjson
async def test_a_batch_has_no_more_than_its_fan_out_in_flight(accept: str) -> None:
    upstreams = SimulatedUpstreams(user=0.1, posts=0.1, todos=0.1)
    async with running_service(upstreams.router, fan_out=4) as service:
        tasks_before = len(asyncio.all_tasks())
        response = await stream(
            service, of(*range(1, 101)), accept, {"X-Request-Timeout-Ms": "10000"}
        )
    assert now() == pytest.approx(300 * 0.1 / 4)
    assert upstreams.max_in_flight == 4
    # Two tasks a call (the scheduler's and the flight's), and one that waits for the disconnect.
    assert upstreams.max_tasks - tasks_before <= 2 * 4 + 1
    assert len(upstreams.requests) == 300
    assert response.text.count('"complete":true') == 100 + (accept != NDJSON)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 2.0), ({"X-Request-Timeout-Ms": "700"}, 0.7), ({"X-Request-Timeout-Ms": "99000"}, 10.0)],
)
@json_and_ndjson
async def test_the_items_of_a_batch_have_one_deadline(
    headers: Mapping[str, str], seconds: float, accept: str
) -> None:
    """Calls that could not start by then fail without an attempt."""
    long_attempts = every_upstream(attempt_timeout=60, retries=0)
    upstreams = SimulatedUpstreams(user_1=0.1, posts_1=None, todos_1=None)
    async with running_service(upstreams.router, fan_out=2, upstreams=long_attempts) as service:
        response = await stream(
            service, of(1, 2, 3, query="include=posts,user,todos"), accept, headers
        )
        assert now() == pytest.approx(seconds)
        assert all(
            upstream.bulkhead.in_flight == 0 for upstream in service.state.upstreams.values()
        )
    assert upstreams.requests == [(0.0, "user", 1), (0.0, "posts", 1), (0.1, "todos", 1)]
    batch = json.loads(response.text) if accept == JSON else {}
    items = batch.get("items") or [json.loads(line) for line in response.text.splitlines()]
    first, *others = items
    assert [first["overview"][name].get("error", {}).get("reason") for name in SECTIONS] == [
        *(None, "timeout", "timeout")
    ]
    assert [item["user_id"] for item in others] == [2, 3]
    for item in others:
        assert item["error"]["status"] == 503
        for section in item["error"]["sections"].values():
            assert (section["error"]["reason"], section["error"]["attempts"]) == ("overloaded", 0)


def with_max_age(*seconds: int) -> respx.MockRouter:
    """The data of user 1 are fresh for the first number of seconds, and so on."""

    async def respond(section: str, user: int) -> httpx.Response:
        return ok_response(section, user, f"max-age={seconds[user - 1] + (section == 'posts')}")

    return routed(respond)


@pytest.mark.parametrize(
    ("max_ages", "cache_control"),
    [((60, 50, 90), r"private, max-age=4[5-9]"), ((60, 0, 90), "private, no-cache")],
)
async def test_a_complete_batch_has_cache_control_and_an_etag_that_gives_304_not_modified(
    max_ages: tuple[int, ...], cache_control: str
) -> None:
    """The freshness is that of the least fresh section."""
    async with running_service(with_max_age(*max_ages)) as service:
        await service.get(of(1, 2, 3))
        await asyncio.sleep(0.5)
        response = await service.get(of(1, 2, 3))
        etag = response.headers["etag"]
        not_modified = await service.get(of(1, 2, 3), headers={"If-None-Match": f'"x", {etag}'})
        other = await service.get(of(1, 2), headers={"If-None-Match": etag})
    # Less than 50 by the wall-clock time that the upstream took.
    assert re.fullmatch(cache_control, response.headers["cache-control"])
    assert response.headers["x-complete"] == "true"
    assert (not_modified.status_code, not_modified.content) == (304, b"")
    assert not_modified.headers["etag"] == etag
    assert (other.status_code, other.headers["etag"] != etag) == (200, True)


@pytest.mark.parametrize("user_2", [(0.0, CONNECT_ERROR), (0.0, STATUS_404)])
async def test_the_cache_control_of_a_partial_batch_is_no_store(
    user_2: tuple[float, Reply],
) -> None:
    async with running_service(
        SimulatedUpstreams("max-age=60", user_2=user_2).router, upstreams=NO_RETRIES
    ) as service:
        response = await service.get(of(1, 2), headers={"If-None-Match": "*"})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-complete"] == "false"
    assert "etag" not in response.headers


async def test_a_cached_batch_lets_other_tasks_run_between_its_items() -> None:
    users = range(1, 51)
    switches = 0

    async def other_task() -> None:
        nonlocal switches
        while True:
            switches += 1
            await asyncio.sleep(0)

    upstreams = SimulatedUpstreams("max-age=60")
    async with running_service(upstreams.router) as service:
        await service.get(of(*users))
        requests = len(upstreams.requests)
        for accept in (JSON, NDJSON):
            other = asyncio.create_task(other_task())
            switches = 0
            await stream(service, of(*users), accept)
            assert switches >= len(users)
            other.cancel()
    assert len(upstreams.requests) == requests


@json_and_ndjson
async def test_the_log_line_of_a_batch_counts_items_and_failures(
    accept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams = SimulatedUpstreams(
        posts_1=(0.0, CONNECT_ERROR),
        posts_2=(0.0, CONNECT_ERROR),
        posts_3=(0.0, STATUS_500),
        user_4=(0.1, STATUS_404),
    )
    async with running_service(upstreams.router, upstreams=NO_RETRIES) as service:
        for users in ((1, 2, 3, 4, 5), (5, 6)):
            await service.get(of(*users), headers={"Accept": accept})
    lines = log_lines(capsys, "request")
    assert [(line["path"], line["status"]) for line in lines] == [("/v1/overviews", 200)] * 2
    fields = ("complete", "users", "items", "partial", "failed")
    reasons = {"posts": {"unreachable": 2, "upstream_status": 1}, "user": {"not_found": 1}}
    assert [[line[name] for name in fields] for line in lines] == [
        [False, 5, 5, 4, reasons],
        [True, 2, 2, 0, {}],
    ]


async def test_a_bug_is_a_500_of_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    upstreams = SimulatedUpstreams(posts_1=0.1, posts_2=(0.2, BUG), posts_3=None)
    async with running_service(upstreams.router) as service, leaving_nothing():
        response = await service.get(of(1, 2, 3))
        assert (response.status_code, now()) == (500, 0.2)
        assert body_of(response, Problem)["type"] == "/problems/internal_error"
        streamed = await stream(service, of(1, 2, 3), NDJSON)
    assert [json.loads(line)["user_id"] for _, line in streamed.chunks] == [1]
    assert (streamed.raised, streamed.ended) == (BUG, False)
    lines = log_lines(capsys)
    assert [line["event"] for line in lines] == ["internal error", "request"] * 2
    assert upstreams.in_flight == 0


async def test_a_demo_fault_holds_for_every_batch_item() -> None:
    async with running_demo() as service:
        response = await service.get(of(1, 2, 11), headers={"X-Demo-Fault": "posts=malformed"})
        assert (await service.get(of(1), headers={"X-Demo-Fault": "slow"})).status_code == 422
    first, second, missing = body_of(response, MODELS.batch)["items"]
    for item in (first, second):
        assert item["overview"]["posts"]["error"]["reason"] == "invalid_payload"
    assert missing["error"]["status"] == 404
