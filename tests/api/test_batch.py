"""Many overviews as one request: what is asked, how much at a time, and what is told of it."""

import asyncio
import json
import re
from collections.abc import Mapping

import httpx
import pytest
import respx

from app.problems.responses import InvalidRequest, Problem
from tests.api.folding import NDJSON, World, follow, played, well
from tests.fakes import leaving_nothing, now
from tests.in_process import (
    ABSENT,
    BROKEN,
    FAULTY,
    MODELS,
    NAMES,
    ONCE,
    End,
    Running,
    body_of,
    each,
    logged,
    running_demo,
    running_service,
)

pytestmark = pytest.mark.anyio

BUG = ZeroDivisionError("a bug of ours")


def of(*users: int, query: str = "") -> str:
    return "/v1/overviews?" + "&".join([*(f"user_id={user}" for user in users), query]).strip("&")


async def test_items_are_in_the_order_asked_for_and_repeats_are_one() -> None:
    world = World()
    async with running_service(world.upstream) as service:
        response = await service.get(of(9, 2, 9, 5, 2))
    assert response.headers["content-type"] == "application/json"
    batch = body_of(response, MODELS.batch)
    assert batch["complete"] is True
    assert [(item["user_id"], item["status"]) for item in batch["items"]] == [
        *((9, "ok"), (2, "ok"), (5, "ok"))
    ]
    assert [item["overview"]["user"]["data"]["id"] for item in batch["items"]] == [9, 2, 5]
    assert sorted(user for _, _, user in world.asked) == [2, 2, 2, 5, 5, 5, 9, 9, 9]


@pytest.mark.parametrize(("batch_max", "most"), [({}, 100), ({"batch_max": 2}, 2)])
@pytest.mark.parametrize("accept", ["application/json", NDJSON])
async def test_so_many_different_users_and_no_more(
    batch_max: Mapping[str, int], most: int, accept: str
) -> None:
    async with running_service(World().upstream, **batch_max) as service:
        some = [*range(1, most + 1)]
        headers = {"Accept": accept}
        assert (await service.get(of(*some, *some), headers=headers)).status_code == 200
        assert refused(await service.get(of(*some, most + 1), headers=headers)) == ["user_id"]


@pytest.mark.parametrize("accept", ["application/json", NDJSON])
@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", ["user_id"]),
        *((f"user_id=1&user_id={bad}", ["user_id"]) for bad in ("", "0", "-1", "x", "1,2", "1.0")),
        *((f"user_id={bad}&user_id=1", ["user_id"]) for bad in ("01", "%2B1", "1e3", str(2**53))),
        ("user_id=1&include=friends", ["include"]),
        ("user_id=1&include=", ["include"]),
        ("user_id=1&include=posts&require=user", ["require"]),
        ("user_id=x&include=x&require=x", ["user_id", "include", "require"]),
    ],
)
async def test_what_is_wrong_is_refused_by_its_name(
    query: str, parameters: list[str], accept: str
) -> None:
    world = World()
    async with running_service(world.upstream) as service:
        response = await service.get(f"/v1/overviews?{query}", headers={"Accept": accept})
    assert refused(response) == parameters
    assert not world.asked


async def test_a_bad_time_is_refused(service: Running) -> None:
    response = await service.get(of(7), headers={"X-Request-Timeout-Ms": "soon"})
    assert [name.lower() for name in refused(response)] == ["x-request-timeout-ms"]


def refused(response: httpx.Response) -> list[str]:
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = body_of(response, InvalidRequest)
    assert problem["instance"] == "/v1/overviews"
    return [error["parameter"] for error in problem["errors"]]


async def test_what_is_wanted_and_required_is_so_for_every_item() -> None:
    world = World(posts_2=(0.0, BROKEN))
    async with running_service(world.upstream, upstreams=ONCE) as service:
        response = await service.get(of(1, 2, query="include=user,posts&require=posts"))
    first, second = body_of(response, MODELS.batch)["items"]
    assert first["overview"]["todos"] == second["error"]["sections"]["todos"]
    assert first["overview"]["todos"] == {"status": "skipped"}
    assert first["overview"]["complete"] is True
    assert (second["status"], second["error"]["status"]) == ("failed", 502)
    assert {section for _, section, _ in world.asked} == {"user", "posts"}


async def test_an_item_fails_alone() -> None:
    world = World(
        user_1=(0.1, ABSENT), posts_1=9.0, todos_1=0.05, posts_2=0.3, posts_3=(0.2, FAULTY)
    )
    async with running_service(world.upstream, upstreams=ONCE) as service:
        response = await service.get(of(1, 2, 3))
    assert (response.status_code, response.headers["x-complete"]) == (200, "false")
    batch = body_of(response, MODELS.batch)
    assert batch["complete"] is False
    missing, well, partial = batch["items"]
    assert (missing["status"], missing["error"]["status"]) == ("failed", 404)
    assert missing["error"]["instance"] == "/v1/users/1/overview"
    assert (well["status"], well["overview"]["complete"]) == ("ok", True)
    assert (partial["status"], partial["overview"]["complete"]) == ("ok", False)
    # Nobody needs the posts of nobody; everybody else's go on.
    assert world.given_up == [(0.1, "posts", 1)]
    assert now() == pytest.approx(0.3)


@pytest.mark.parametrize("accept", ["application/json", NDJSON])
async def test_no_more_is_under_way_than_one_request_may_have(accept: str) -> None:
    world = World(user=0.1, posts=0.1, todos=0.1)
    async with running_service(world.upstream, fan_out=4) as service:
        before = len(asyncio.all_tasks())
        answer = await follow(
            service, of(*range(1, 101)), accept, {"X-Request-Timeout-Ms": "10000"}
        )
    assert now() == pytest.approx(300 * 0.1 / 4)
    assert world.most == 4
    # Who asks, the flight that others could share, and the watch for the client's leaving.
    assert world.most_tasks - before <= 2 * 4 + 1
    assert len(world.asked) == 300
    assert answer.text.count('"complete":true') == 100 + (accept != NDJSON)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 2.0), ({"X-Request-Timeout-Ms": "700"}, 0.7), ({"X-Request-Timeout-Ms": "99000"}, 10.0)],
)
@pytest.mark.parametrize("accept", ["application/json", NDJSON])
async def test_the_deadline_is_that_of_the_batch(
    headers: Mapping[str, str], seconds: float, accept: str
) -> None:
    """What could not begin until then was never tried."""
    patient = each(attempt_timeout=60, retries=0)
    world = World(user_1=0.1, posts_1=None, todos_1=None)
    async with running_service(world.upstream, fan_out=2, upstreams=patient) as service:
        answer = await follow(
            service, of(1, 2, 3, query="include=posts,user,todos"), accept, headers
        )
        assert now() == pytest.approx(seconds)
        assert all(one.bulkhead.in_flight == 0 for one in service.service.upstreams.values())
    assert world.asked == [(0.0, "user", 1), (0.0, "posts", 1), (0.1, "todos", 1)]
    told = json.loads(answer.text) if accept != NDJSON else {}
    items = told.get("items") or [json.loads(line) for line in answer.text.splitlines()]
    first, *others = items
    assert [first["overview"][name].get("error", {}).get("reason") for name in NAMES] == [
        *(None, "timeout", "timeout")
    ]
    assert [item["user_id"] for item in others] == [2, 3]
    for item in others:
        assert item["error"]["status"] == 503
        for section in item["error"]["sections"].values():
            assert (section["error"]["reason"], section["error"]["attempts"]) == ("overloaded", 0)


def aged(*ages: int) -> respx.MockRouter:
    """Each user's data are fresh for so many seconds, by their number from 1."""

    async def play(section: str, user: int) -> httpx.Response:
        return well(section, user, f"max-age={ages[user - 1] + (section == 'posts')}")

    return played(play)


@pytest.mark.parametrize(
    ("ages", "control"),
    [((60, 50, 90), r"private, max-age=4[5-9]"), ((60, 0, 90), "private, no-cache")],
)
async def test_a_complete_batch_is_as_fresh_as_its_least_fresh_section(
    ages: tuple[int, ...], control: str
) -> None:
    async with running_service(aged(*ages)) as service:
        await service.get(of(1, 2, 3))
        await asyncio.sleep(0.5)
        response = await service.get(of(1, 2, 3))
        tag = response.headers["etag"]
        again = await service.get(of(1, 2, 3), headers={"If-None-Match": f'"x", {tag}'})
        other = await service.get(of(1, 2), headers={"If-None-Match": tag})
    # The time that the upstream took by the clock on the wall is gone.
    assert re.fullmatch(control, response.headers["cache-control"])
    assert response.headers["x-complete"] == "true"
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert (other.status_code, other.headers["etag"] != tag) == (200, True)


@pytest.mark.parametrize("fate", [(0.0, BROKEN), (0.0, ABSENT)])
async def test_nothing_partial_is_kept(fate: tuple[float, End]) -> None:
    async with running_service(
        World("max-age=60", user_2=fate).upstream, upstreams=ONCE
    ) as service:
        response = await service.get(of(1, 2), headers={"If-None-Match": "*"})
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-complete"] == "false"
    assert "etag" not in response.headers


async def test_what_is_all_stored_lets_others_work_in_between() -> None:
    users = range(1, 51)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    world = World("max-age=60")
    async with running_service(world.upstream) as service:
        await service.get(of(*users))
        asked = len(world.asked)
        for accept in ("application/json", NDJSON):
            busy = asyncio.create_task(other())
            turns = 0
            await follow(service, of(*users), accept)
            assert turns >= len(users)
            busy.cancel()
    assert len(world.asked) == asked


@pytest.mark.parametrize("accept", ["application/json", NDJSON])
async def test_the_log_counts_items_and_what_failed(
    accept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(
        posts_1=(0.0, BROKEN), posts_2=(0.0, BROKEN), posts_3=(0.0, FAULTY), user_4=(0.1, ABSENT)
    )
    async with running_service(world.upstream, upstreams=ONCE) as service:
        for users in ((1, 2, 3, 4, 5), (5, 6)):
            await service.get(of(*users), headers={"Accept": accept})
    lines = [line for line in logged(capsys.readouterr().out) if line["event"] == "request"]
    assert [(line["path"], line["status"]) for line in lines] == [("/v1/overviews", 200)] * 2
    counted = ("complete", "users", "items", "partial", "failed")
    reasons = {"posts": {"unreachable": 2, "upstream_status": 1}, "user": {"not_found": 1}}
    assert [[line[name] for name in counted] for line in lines] == [
        [False, 5, 5, 4, reasons],
        [True, 2, 2, 0, {}],
    ]


async def test_a_bug_fails_the_whole_batch(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(posts_1=0.1, posts_2=(0.2, BUG), posts_3=None)
    async with running_service(world.upstream) as service, leaving_nothing():
        response = await service.get(of(1, 2, 3))
        assert (response.status_code, now()) == (500, 0.2)
        assert body_of(response, Problem)["type"] == "/problems/internal_error"
        streamed = await follow(service, of(1, 2, 3), NDJSON)
    assert [json.loads(line)["user_id"] for _, line in streamed.pieces] == [1]
    assert (streamed.raised, streamed.ended) == (BUG, False)
    lines = logged(capsys.readouterr().out)
    assert [line["event"] for line in lines] == ["internal error", "request"] * 2
    assert world.in_flight == 0


async def test_the_demos_faults_are_for_every_item() -> None:
    async with running_demo() as service:
        response = await service.get(of(1, 2, 11), headers={"X-Demo-Fault": "posts=malformed"})
        assert (await service.get(of(1), headers={"X-Demo-Fault": "slow"})).status_code == 422
    first, second, missing = body_of(response, MODELS.batch)["items"]
    for item in (first, second):
        assert item["overview"]["posts"]["error"]["reason"] == "invalid_payload"
    assert missing["error"]["status"] == 404
