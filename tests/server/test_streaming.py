"""What leaves piece by piece: at the pace of its reader, and not for longer than there is one."""

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from app.composition.scheduler import PlanRun
from app.server.disconnect import ClientDisconnected
from app.server.request_state import RequestState
from app.server.streaming import ClosingStreamingResponse
from tests.api.folding import EVENTS, NDJSON, World, at_once, follow, taking
from tests.fakes import leaving_nothing, now, result_or_error
from tests.in_process import (
    ABSENT,
    MODELS,
    PATH,
    Hanging,
    a_scope,
    each,
    logged,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

JSON = "application/json"
MANY = "/v1/overviews?user_id=1&user_id=2&user_id=3"
PATIENT = each(attempt_timeout=60, retries=0)
BUG = ZeroDivisionError("a bug of ours")
LONG = {"X-Request-Timeout-Ms": "9000"}

BUG = ZeroDivisionError("a bug of ours")

ways = pytest.mark.parametrize(
    ("target", "accept"), [(PATH, JSON), (PATH, EVENTS), (MANY, JSON), (MANY, NDJSON)]
)
streams = pytest.mark.parametrize(("target", "accept"), [(PATH, EVENTS), (MANY, NDJSON)])


async def stuck(_: bytes) -> None:
    """Read one piece, and never another."""
    await asyncio.Event().wait()


async def test_lines_come_in_the_order_of_completion() -> None:
    world = World(posts_1=0.3, todos_2=0.1, user_3=(0.2, ABSENT), user_4=0.25)
    target = "/v1/overviews?user_id=1&user_id=2&user_id=3&user_id=4"
    async with running_service(world.upstream) as service:
        answer = await follow(service, target, NDJSON)
        whole = await service.get(target)
    items = [(round(when, 3), json.loads(line)) for when, line in answer.pieces]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for _, line in answer.pieces)
    assert [(when, item["user_id"]) for when, item in items] == [
        *((0.1, 2), (0.2, 3), (0.25, 4), (0.3, 1))
    ]
    for _, item in items:
        assert MODELS.item.model_validate(item).model_dump(mode="json", exclude_unset=True) == item
    assert answer.ended
    assert answer.headers["content-type"] == NDJSON
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["vary"] == whole.headers["vary"] == "Accept"


@ways
async def test_head_has_the_headers_alone(target: str, accept: str) -> None:
    same = {"X-Request-ID": "same"}
    async with running_service(World("max-age=60").upstream) as service:
        for _ in range(2):  # stored, so that no header tells of a time
            got = await follow(service, target, accept, same)
        head = await follow(service, target, accept, same, method="HEAD")
    assert got.pieces
    for answer in (got, head):
        answer.headers.pop("server-timing", None)
    assert (head.status, head.headers, head.pieces) == (got.status, got.headers, [])
    assert head.ended


@streams
async def test_head_of_a_stream_asks_nobody_and_waits_for_nobody(target: str, accept: str) -> None:
    asked = Hanging()
    async with running_service(upstream_with(user=asked), upstreams=PATIENT) as service:
        head = await follow(service, target, accept, method="HEAD", stays=1.0)
        assert now() == 0.0
    assert (head.status, head.ended, asked.asked) == (200, True, [])


async def test_a_line_that_was_sent_is_held_by_nobody() -> None:
    held = list[int]()

    async def read(_: bytes) -> None:
        gc.collect()
        held.append(sum(isinstance(one, PlanRun) for one in gc.get_objects()))

    users = "&".join(f"user_id={user}" for user in range(1, 41))
    async with running_service(World(posts=0.1).upstream, fan_out=3) as service:
        gc.freeze()  # so that only what is made from now on is looked at
        try:
            await follow(service, f"/v1/overviews?{users}", NDJSON, read=read)
        finally:
            gc.unfreeze()
    assert len(held) == 40
    assert max(held) <= 3 + 1


@ways
@pytest.mark.parametrize("stays", [0.0, 0.5])
async def test_what_is_under_way_ends_when_the_client_leaves(
    target: str, accept: str, stays: float, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(user=0.2, posts=None, todos=None)
    async with running_service(world.upstream, fan_out=5, upstreams=PATIENT) as service:
        async with leaving_nothing():
            answer = await follow(service, target, accept, LONG, stays=stays)
        assert (now(), world.in_flight) == (stays, 0)
        assert {when for when, _, _ in world.given_up} <= {stays}
        assert len(world.given_up) >= (2 if stays else 0)
        assert all(one.bulkhead.in_flight == 0 for one in service.service.upstreams.values())
    assert (answer.raised, answer.ended) == (None, False)
    (line,) = logged(capsys.readouterr().out)
    assert (line["event"], line["status"]) == ("request", 499)


@streams
async def test_so_does_what_waits_for_a_slow_reader(target: str, accept: str) -> None:
    """Nothing of the answer is waited for when the client leaves: all of it waits to be sent."""
    world = World(user_1=0.2, user_7=0.2, posts_2=None, posts_3=None, todos_7=None)
    async with running_service(world.upstream, upstreams=PATIENT) as service, leaving_nothing():
        answer = await follow(service, target, accept, LONG, stays=5.0, read=stuck)
    assert (now(), world.in_flight, len(answer.pieces)) == (5.0, 0, 1)
    assert world.given_up
    assert {when for when, _, _ in world.given_up} == {5.0}


async def test_a_slow_reader_holds_up_the_asking() -> None:
    """What is asked for a batch is asked as its lines are read."""
    world = World(posts=0.1)

    async def read(_: bytes) -> None:
        await asyncio.sleep(1)

    users = "&".join(f"user_id={user}" for user in range(1, 9))
    async with running_service(world.upstream, fan_out=3) as service:
        answer = await follow(service, f"/v1/overviews?{users}", NDJSON, LONG, read=read)
    for when, _ in answer.pieces:
        read_by_then = sum(other < when for other, _ in answer.pieces)
        asked = {user for asked, _, user in world.asked if asked <= when}
        assert len(asked) <= read_by_then + 4
    assert len(world.asked) == 24


@streams
async def test_what_others_wait_for_as_well_goes_on(target: str, accept: str) -> None:
    world = World(user=0.2, posts=0.3, todos=0.4)
    async with running_service(world.upstream) as service:
        staying, leaving = await asyncio.gather(
            follow(service, target, accept), follow(service, target, accept, stays=0.1)
        )
    assert (staying.ended, leaving.ended) == (True, False)
    assert '"failed"' not in staying.text
    assert world.given_up == []
    assert len({asked[1:] for asked in world.asked}) == len(world.asked)


@streams
@pytest.mark.parametrize("read", [at_once, stuck])
async def test_a_server_that_stops_ends_it_too(
    target: str, accept: str, read: Callable[[bytes], Awaitable[None]]
) -> None:
    world = World(posts_2=None, posts_3=None, todos_7=None)
    async with running_service(world.upstream, upstreams=PATIENT) as service, leaving_nothing():
        task = asyncio.create_task(follow(service, target, accept, LONG, read=read))
        await asyncio.sleep(0.5)
        task.cancel()
        await result_or_error(task)
        assert task.cancelled()
    assert (now(), world.in_flight) == (0.5, 0)


@pytest.mark.parametrize("piece", [b"", b"a piece"])
async def test_the_content_is_closed_before_anybody_goes_on(piece: bytes) -> None:
    """Whether it waits for something or to be continued; not some day, by the garbage collector."""
    closed = list[float]()

    async def content() -> AsyncGenerator[bytes]:
        try:
            if piece:
                yield piece
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(1)
            closed.append(now())

    async def receive() -> dict[str, str]:
        await asyncio.sleep(3)
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        if isinstance(message, dict) and message.get("body"):
            await asyncio.Event().wait()

    response = ClosingStreamingResponse(content(), "text/plain", {})
    scope = a_scope("/")
    RequestState("test", arrived=0.0).attach(scope)
    error = await result_or_error(response(scope, receive, send))
    assert isinstance(error, ClientDisconnected)
    assert closed == [4.0]


@pytest.mark.parametrize("posts_2", [None, (0.2, BUG)])
async def test_what_broke_off_is_not_complete_in_the_log(
    posts_2: tuple[float, Exception] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(posts_2=posts_2)
    async with running_service(world.upstream, upstreams=PATIENT) as service:
        answer = await follow(service, MANY, NDJSON, stays=0.5)
    assert (len(answer.pieces), answer.ended) == (2, False)
    assert logged(capsys.readouterr().out)[-1]["complete"] is False


@pytest.mark.parametrize("posts", [9.0, (0.2, BUG)])
async def test_nor_are_events(
    posts: float | tuple[float, Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(taking(posts=posts), upstreams=PATIENT) as service:
        answer = await follow(service, PATH, EVENTS, stays=0.5)
    assert not answer.ended
    assert logged(capsys.readouterr().out)[-1]["complete"] is False


@streams
async def test_a_bug_is_not_hidden_by_the_clients_leaving(
    target: str, accept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It happens while a piece waits to be read, and comes to light when the client has gone."""
    world = World(user=0.1, posts=(0.2, BUG), user_1=0.0, posts_1=0.0)
    async with running_service(world.upstream, upstreams=PATIENT) as service:
        answer = await follow(service, target, accept, stays=1.0, read=stuck)
    assert (len(answer.pieces), answer.raised) == (1, BUG)
    error, request = logged(capsys.readouterr().out)
    assert "ZeroDivisionError: a bug of ours" in error["exception"]
    assert request["event"] == "request"


async def test_nor_by_its_leaving_before_it_has_heard_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def read(piece: bytes) -> None:
        if b"event: done" in piece:
            await asyncio.Event().wait()

    async with running_service(taking(posts=(0.2, BUG)), upstreams=PATIENT) as service:
        answer = await follow(service, PATH, EVENTS, stays=1.0, read=read)
    assert answer.raised is BUG
    assert "ZeroDivisionError: a bug of ours" in logged(capsys.readouterr().out)[0]["exception"]
