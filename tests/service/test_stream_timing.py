"""Streaming: each SSE event and NDJSON line is sent as soon as it is complete, in its own chunk."""

import asyncio
from itertools import permutations

import pytest

from tests.service.replies import delayed, good, never
from tests.service.running import NOISE, running_service
from tests.service.stream import NDJSON, SSE
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_MAX_DELAY = 0.01
_NO_TIMEOUT = {"attempt_timeout": 5.0, "retries": 0}
_UPSTREAMS = {"user": "users", "posts": "posts", "todos": "todos"}


class _Gate:
    """A good reply that waits until the gate is opened."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, exchange: Exchange) -> None:
        await self._opened.wait()
        await good(exchange)


@pytest.mark.parametrize("order", list(permutations(_UPSTREAMS)), ids="-".join)
async def test_each_sse_event_is_sent_when_its_section_completes(order: tuple[str, ...]) -> None:
    gates = {section: _Gate() for section in order}
    replies: dict[str, Reply] = {_UPSTREAMS[section]: gate for section, gate in gates.items()}
    async with (
        running_service(replies, _NO_TIMEOUT, request_timeout=5) as service,
        service.stream("/v1/users/1/overview", SSE) as stream,
    ):
        for section in order:
            gates[section].open()
            chunk = await stream.next_chunk()
            ((event, data),) = chunk.events
            assert (event, data["name"], data["section"]["status"]) == ("section", section, "ok")
            (exchange,) = service.upstreams[_UPSTREAMS[section]].exchanges
            assert exchange.ended is not None
            assert chunk.received_at - exchange.ended < _MAX_DELAY + NOISE
        assert [event async for chunk in stream for event, _ in chunk.events] == ["done"]


async def test_the_first_sse_event_takes_as_long_as_the_fastest_upstream() -> None:
    replies = {"users": delayed(0.02), "posts": never, "todos": never}
    async with (
        running_service(replies, _NO_TIMEOUT, request_timeout=5) as service,
        service.stream("/v1/users/1/overview", SSE) as stream,
    ):
        chunk = await stream.next_chunk()
        assert [data["name"] for _, data in chunk.events] == ["user"]
        assert chunk.received_at - stream.sent_at < 0.02 + _MAX_DELAY + NOISE


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))), ids=str)
async def test_each_ndjson_line_is_sent_when_its_user_completes(order: tuple[int, ...]) -> None:
    gates = {str(user): _Gate() for user in order}

    async def gated(exchange: Exchange) -> None:
        await gates[exchange.target[-1]](exchange)

    replies = dict.fromkeys(_UPSTREAMS.values(), gated)
    async with (
        running_service(replies, _NO_TIMEOUT, request_timeout=5) as service,
        service.stream("/v1/overviews?user_id=1&user_id=2&user_id=3", NDJSON) as stream,
    ):
        for user in order:
            gates[str(user)].open()
            chunk = await stream.next_chunk()
            (line,) = chunk.lines
            assert (line["user_id"], line["overview"]["complete"]) == (user, True)
        assert [chunk async for chunk in stream] == []


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/users/1/overview", SSE), ("/v1/overviews?user_id=1&user_id=2", NDJSON)],
)
async def test_the_head_of_a_chunked_stream_is_sent_at_once_and_forbids_caching_and_buffering(
    path: str, media_type: str
) -> None:
    gate = _Gate()
    replies: dict[str, Reply] = dict.fromkeys(_UPSTREAMS.values(), gate)
    async with (
        running_service(replies, _NO_TIMEOUT, request_timeout=5) as service,
        service.stream(path, media_type) as stream,
    ):
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == media_type
        assert stream.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in stream.headers
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        gate.open()
        assert [chunk async for chunk in stream]


async def test_a_stream_leaves_its_connection_open_for_keep_alive() -> None:
    async with running_service() as service, service.stream("/v1/users/1/overview", SSE) as stream:
        for user in (2, 3):
            assert [chunk async for chunk in stream][-1].events[-1][0] == "done"
            await stream.get(f"/v1/users/{user}/overview")
        assert [chunk async for chunk in stream][-1].events[-1][1]["user_id"] == 3
