"""Each part of a streamed answer leaves when it is there, in a write of its own."""

import asyncio
from itertools import permutations

import pytest

from tests.service.replies import after, good, never
from tests.service.running import EVENTS, LINES, NOISE, running
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_PROMPT = 0.01
_PATIENT = {"attempt_timeout": 5.0, "retries": 0}
_UPSTREAMS = {"user": "users", "posts": "posts", "todos": "todos"}


class _Gate:
    """Good, as soon as it is opened."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def __call__(self, exchange: Exchange) -> None:
        await self._opened.wait()
        await good(exchange)


@pytest.mark.parametrize("order", list(permutations(_UPSTREAMS)), ids="-".join)
async def test_no_section_waits_for_another_one(order: tuple[str, ...]) -> None:
    gates = {section: _Gate() for section in order}
    replies: dict[str, Reply] = {_UPSTREAMS[section]: gate for section, gate in gates.items()}
    async with (
        running(replies, _PATIENT, request_timeout=5) as service,
        service.stream("/v1/users/1/overview", EVENTS) as stream,
    ):
        for section in order:
            gates[section].open()
            piece = await stream.piece()
            ((event, told),) = piece.events
            assert (event, told["name"], told["section"]["status"]) == ("section", section, "ok")
            (exchange,) = service.upstreams[_UPSTREAMS[section]].seen
            assert exchange.ended is not None
            assert piece.came - exchange.ended < _PROMPT + NOISE
        assert [event async for piece in stream for event, _ in piece.events] == ["done"]


async def test_the_first_section_takes_the_time_of_the_fastest_upstream() -> None:
    replies = {"users": after(0.02), "posts": never, "todos": never}
    async with (
        running(replies, _PATIENT, request_timeout=5) as service,
        service.stream("/v1/users/1/overview", EVENTS) as stream,
    ):
        piece = await stream.piece()
        assert [told["name"] for _, told in piece.events] == ["user"]
        assert piece.came - stream.asked < 0.02 + _PROMPT + NOISE


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))), ids=str)
async def test_no_line_waits_for_another_user(order: tuple[int, ...]) -> None:
    gates = {str(user): _Gate() for user in order}

    async def gated(exchange: Exchange) -> None:
        await gates[exchange.target[-1]](exchange)

    async with (
        running(dict.fromkeys(_UPSTREAMS.values(), gated), _PATIENT, request_timeout=5) as service,
        service.stream("/v1/overviews?user_id=1&user_id=2&user_id=3", LINES) as stream,
    ):
        for user in order:
            gates[str(user)].open()
            piece = await stream.piece()
            (line,) = piece.lines
            assert (line["user_id"], line["overview"]["complete"]) == (user, True)
        assert [piece async for piece in stream] == []


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/v1/users/1/overview", EVENTS), ("/v1/overviews?user_id=1&user_id=2", LINES)],
)
async def test_the_head_does_not_wait_and_forbids_others_to(path: str, media_type: str) -> None:
    gate = _Gate()
    replies: dict[str, Reply] = dict.fromkeys(_UPSTREAMS.values(), gate)
    async with (
        running(replies, _PATIENT, request_timeout=5) as service,
        service.stream(path, media_type) as stream,
    ):
        assert stream.status == 200
        assert stream.headers["content-type"].partition(";")[0] == media_type
        assert stream.headers["transfer-encoding"] == "chunked"
        assert "content-length" not in stream.headers
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        gate.open()
        assert [piece async for piece in stream]


async def test_a_connection_serves_again_after_a_stream() -> None:
    async with running() as service, service.stream("/v1/users/1/overview", EVENTS) as stream:
        for user in (2, 3):
            assert [piece async for piece in stream][-1].events[-1][0] == "done"
            await stream.ask(f"/v1/users/{user}/overview")
        assert [piece async for piece in stream][-1].events[-1][1]["user_id"] == 3
