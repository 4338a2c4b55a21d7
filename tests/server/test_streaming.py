"""Streamed responses: backpressure, disconnects, bugs, and what stays in memory."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from app.composition.scheduler import PlanRun
from app.server.disconnect import ClientDisconnected
from app.server.request_state import RequestState
from app.server.streaming import ClosingStreamingResponse
from tests.api.simulated_upstreams import SimulatedUpstreams, simulated
from tests.api.stream_client import JSON, NDJSON, SSE, read_at_once, stream
from tests.fakes import leaving_nothing, now, result_or_error
from tests.in_process import (
    PATH,
    HangingUpstream,
    a_scope,
    every_upstream,
    log_lines,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

BATCH = "/v1/overviews?user_id=1&user_id=2&user_id=3"
LONG_ATTEMPTS = every_upstream(attempt_timeout=60, retries=0)
LONG_REQUEST = {"X-Request-Timeout-Ms": "9000"}
BUG = ZeroDivisionError("a bug of ours")

any_response = pytest.mark.parametrize(
    ("target", "accept"), [(PATH, JSON), (PATH, SSE), (BATCH, JSON), (BATCH, NDJSON)]
)
any_stream = pytest.mark.parametrize(("target", "accept"), [(PATH, SSE), (BATCH, NDJSON)])


async def read_one_chunk(_: bytes) -> None:
    """Take one chunk, and never another."""
    await asyncio.Event().wait()


@any_response
async def test_head_of_json_sse_and_ndjson_has_the_headers_of_get_alone(
    target: str, accept: str
) -> None:
    headers = {"X-Request-ID": "same"}
    async with running_service(SimulatedUpstreams("max-age=60").router) as service:
        for _ in range(2):  # the second is cached, so that its headers do not depend on latency
            get = await stream(service, target, accept, headers)
        head = await stream(service, target, accept, headers, method="HEAD")
    assert get.chunks
    for response in (get, head):
        response.headers.pop("server-timing", None)
    assert (head.status, head.headers, head.chunks) == (get.status, get.headers, [])
    assert head.ended


@any_stream
async def test_head_of_a_stream_makes_no_upstream_request(target: str, accept: str) -> None:
    user = HangingUpstream()
    async with running_service(upstream_with(user=user), upstreams=LONG_ATTEMPTS) as service:
        head = await stream(service, target, accept, method="HEAD", disconnect_after=1.0)
        assert now() == 0.0
    assert (head.status, head.ended, user.requests) == (200, True, [])


async def test_an_ndjson_line_is_not_kept_in_memory_once_sent() -> None:
    runs_in_memory = list[int]()

    async def read(_: bytes) -> None:
        gc.collect()
        runs_in_memory.append(sum(isinstance(one, PlanRun) for one in gc.get_objects()))

    users = "&".join(f"user_id={user}" for user in range(1, 41))
    async with running_service(SimulatedUpstreams(posts=0.1).router, fan_out=3) as service:
        gc.freeze()  # then `gc.get_objects` has only new objects
        try:
            await stream(service, f"/v1/overviews?{users}", NDJSON, read=read)
        finally:
            gc.unfreeze()
    assert len(runs_in_memory) == 40
    assert max(runs_in_memory) <= 3 + 1


@any_response
@pytest.mark.parametrize("disconnect_after", [0.0, 0.5])
async def test_a_disconnect_cancels_the_calls_in_flight(
    target: str, accept: str, disconnect_after: float, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams = SimulatedUpstreams(user=0.2, posts=None, todos=None)
    async with running_service(upstreams.router, fan_out=5, upstreams=LONG_ATTEMPTS) as service:
        async with leaving_nothing():
            response = await stream(
                service, target, accept, LONG_REQUEST, disconnect_after=disconnect_after
            )
        assert (now(), upstreams.in_flight) == (disconnect_after, 0)
        assert {when for when, _, _ in upstreams.cancelled} <= {disconnect_after}
        assert len(upstreams.cancelled) >= (2 if disconnect_after else 0)
        assert all(
            upstream.bulkhead.in_flight == 0 for upstream in service.state.upstreams.values()
        )
    assert (response.raised, response.ended) == (None, False)
    (line,) = log_lines(capsys)
    assert (line["event"], line["status"]) == ("request", 499)


@any_stream
async def test_a_disconnect_of_a_slow_reader_cancels_the_calls_in_flight(
    target: str, accept: str
) -> None:
    """When the client disconnects, the response waits for a chunk to be read, and for no call."""
    upstreams = SimulatedUpstreams(user_1=0.2, user_7=0.2, posts_2=None, posts_3=None, todos_7=None)
    async with (
        running_service(upstreams.router, upstreams=LONG_ATTEMPTS) as service,
        leaving_nothing(),
    ):
        response = await stream(
            service, target, accept, LONG_REQUEST, disconnect_after=5.0, read=read_one_chunk
        )
    assert (now(), upstreams.in_flight, len(response.chunks)) == (5.0, 0, 1)
    assert upstreams.cancelled
    assert {when for when, _, _ in upstreams.cancelled} == {5.0}


async def test_backpressure_of_a_slow_ndjson_reader_delays_the_upstream_requests() -> None:
    """The upstream requests of a batch are made as its lines are read."""
    upstreams = SimulatedUpstreams(posts=0.1)

    async def read(_: bytes) -> None:
        await asyncio.sleep(1)

    users = "&".join(f"user_id={user}" for user in range(1, 9))
    async with running_service(upstreams.router, fan_out=3) as service:
        response = await stream(service, f"/v1/overviews?{users}", NDJSON, LONG_REQUEST, read=read)
    for when, _ in response.chunks:
        read_before = sum(other < when for other, _ in response.chunks)
        requested = {user for instant, _, user in upstreams.requests if instant <= when}
        assert len(requested) <= read_before + 4
    assert len(upstreams.requests) == 24


@any_stream
async def test_a_coalesced_call_goes_on_when_one_of_its_clients_disconnects(
    target: str, accept: str
) -> None:
    upstreams = SimulatedUpstreams(user=0.2, posts=0.3, todos=0.4)
    async with running_service(upstreams.router) as service:
        connected, disconnected = await asyncio.gather(
            stream(service, target, accept), stream(service, target, accept, disconnect_after=0.1)
        )
    assert (connected.ended, disconnected.ended) == (True, False)
    assert '"failed"' not in connected.text
    assert upstreams.cancelled == []
    assert len({request[1:] for request in upstreams.requests}) == len(upstreams.requests)


@any_stream
@pytest.mark.parametrize("read", [read_at_once, read_one_chunk])
async def test_a_stopping_server_cancels_the_calls_in_flight(
    target: str, accept: str, read: Callable[[bytes], Awaitable[None]]
) -> None:
    upstreams = SimulatedUpstreams(posts_2=None, posts_3=None, todos_7=None)
    async with (
        running_service(upstreams.router, upstreams=LONG_ATTEMPTS) as service,
        leaving_nothing(),
    ):
        task = asyncio.create_task(stream(service, target, accept, LONG_REQUEST, read=read))
        await asyncio.sleep(0.5)
        task.cancel()
        await result_or_error(task)
        assert task.cancelled()
    assert (now(), upstreams.in_flight) == (0.5, 0)


@pytest.mark.parametrize("chunk", [b"", b"a chunk"])
async def test_the_content_is_closed_before_the_disconnect_is_raised(chunk: bytes) -> None:
    """Whether the generator waits inside or at its `yield`; not later, by the garbage collector."""
    closed = list[float]()

    async def content() -> AsyncGenerator[bytes]:
        try:
            if chunk:
                yield chunk
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
    RequestState(arrived=0.0).attach(scope)
    error = await result_or_error(response(scope, receive, send))
    assert isinstance(error, ClientDisconnected)
    assert closed == [4.0]


@pytest.mark.parametrize("posts_2", [None, (0.2, BUG)])
async def test_an_ndjson_batch_that_broke_off_is_logged_as_not_complete(
    posts_2: tuple[float, Exception] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams = SimulatedUpstreams(posts_2=posts_2)
    async with running_service(upstreams.router, upstreams=LONG_ATTEMPTS) as service:
        response = await stream(service, BATCH, NDJSON, disconnect_after=0.5)
    assert (len(response.chunks), response.ended) == (2, False)
    assert log_lines(capsys)[-1]["complete"] is False


@pytest.mark.parametrize("posts", [9.0, (0.2, BUG)])
async def test_an_sse_stream_that_broke_off_is_logged_as_not_complete(
    posts: float | tuple[float, Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(simulated(posts=posts), upstreams=LONG_ATTEMPTS) as service:
        response = await stream(service, PATH, SSE, disconnect_after=0.5)
    assert not response.ended
    assert log_lines(capsys)[-1]["complete"] is False


@any_stream
async def test_a_bug_is_not_hidden_by_a_disconnect(
    target: str, accept: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It happens while a chunk waits to be read, and is raised when the client has disconnected."""
    upstreams = SimulatedUpstreams(user=0.1, posts=(0.2, BUG), user_1=0.0, posts_1=0.0)
    async with running_service(upstreams.router, upstreams=LONG_ATTEMPTS) as service:
        response = await stream(service, target, accept, disconnect_after=1.0, read=read_one_chunk)
    assert (len(response.chunks), response.raised) == (1, BUG)
    error, request = log_lines(capsys)
    assert "ZeroDivisionError: a bug of ours" in error["exception"]
    assert request["event"] == "request"


async def test_a_bug_is_not_hidden_by_a_disconnect_before_its_sse_event_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def read(chunk: bytes) -> None:
        if b"event: done" in chunk:
            await asyncio.Event().wait()

    async with running_service(simulated(posts=(0.2, BUG)), upstreams=LONG_ATTEMPTS) as service:
        response = await stream(service, PATH, SSE, disconnect_after=1.0, read=read)
    assert response.raised is BUG
    assert "ZeroDivisionError: a bug of ours" in log_lines(capsys)[0]["exception"]
