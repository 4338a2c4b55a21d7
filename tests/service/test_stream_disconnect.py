"""A client that disconnects from a stream: its attempts are cancelled, and no data stays."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter

import pytest

from app.call import Data
from tests.service.replies import good, never, respond_with
from tests.service.running import NOISE, RunningService, eventually, running_service
from tests.service.stream import NDJSON, SSE, Stream
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_CANCELLED_WITHIN = 0.1
_FAN_OUT = 10
_NAMES = ("users", "posts", "todos")
_NO_TIMEOUT = {"attempt_timeout": 9.0, "retries": 0}
_OVERVIEW = "/v1/users/1/overview"
_OVERVIEWS = "/v1/overviews?" + "&".join(f"user_id={user}" for user in range(1, 101))
_LARGE = b"x" * 500_000


@dataclass
class _PartialReply:
    """Responds to some attempts, with large posts; the others hang, and are in `held`."""

    responds: Callable[[str, int], bool]
    """By path and user."""
    held: list[Exchange] = field(default_factory=list)
    attempts: int = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.attempts += 1
        path, _, query = exchange.target.partition("?userId=")
        user = int(query or path.rpartition("/")[2])
        if not self.responds(path, user):
            self.held.append(exchange)
            await never(exchange)
        elif path == "/posts":
            post = b'[{"userId":%d,"id":1,"title":"","body":"%b"}]' % (user, _LARGE)
            await respond_with(post)(exchange)
        else:
            await good(exchange)


@dataclass(frozen=True)
class _Moment:
    """When a client disconnects: after `chunks`, with `held` attempts that have no response."""

    path: str
    accept: str
    responds: Callable[[str, int], bool]
    held: int
    chunks: int = 0
    window: int | None = None

    @asynccontextmanager
    async def service(self) -> AsyncIterator[tuple[RunningService, _PartialReply]]:
        reply = _PartialReply(self.responds)
        replies: dict[str, Reply] = dict.fromkeys(_NAMES, reply)
        async with running_service(
            replies, _NO_TIMEOUT, request_timeout=9, fan_out=_FAN_OUT, log_level="error"
        ) as service:
            yield service, reply

    @asynccontextmanager
    async def stream(self, service: RunningService, reply: _PartialReply) -> AsyncIterator[Stream]:
        """A stream that has come to this moment."""
        reply.held.clear()
        async with service.stream(self.path, self.accept, window=self.window) as stream:
            for _ in range(self.chunks):
                await stream.next_chunk()
            assert await eventually(lambda: len(reply.held) == self.held)
            attempts = 0
            while self.window and attempts < reply.attempts:  # no event says that no more follow
                attempts = reply.attempts
                await asyncio.sleep(0.2)
            yield stream


_MOMENTS = {
    "before an sse event": _Moment(_OVERVIEW, SSE, lambda path, user: False, 3),
    "after an sse event": _Moment(_OVERVIEW, SSE, lambda path, user: "users" in path, 2, chunks=1),
    "before an ndjson line": _Moment(_OVERVIEWS, NDJSON, lambda path, user: False, _FAN_OUT),
    "after an ndjson line": _Moment(
        _OVERVIEWS, NDJSON, lambda path, user: user == 1, _FAN_OUT, chunks=1
    ),
    "not reading": _Moment(
        _OVERVIEWS + "&include=posts", NDJSON, lambda path, user: user != 3, 1, window=4096
    ),
}
_AT_EACH_MOMENT = pytest.mark.parametrize("moment", _MOMENTS.values(), ids=_MOMENTS)


@pytest.fixture
def retained() -> Iterator[Callable[[], int]]:
    """How many upstream answers stay in memory while the garbage collector is off.

    In production it runs rarely, so garbage in cycles would pile up. A few answers do wait for it,
    because `asyncio.timeout` leaves a cycle in a task that is cancelled within it.
    """

    def count() -> int:
        return sum(isinstance(one, Data) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    before = count()
    yield lambda: count() - before
    gc.enable()


@_AT_EACH_MOMENT
@pytest.mark.parametrize("reset", [False, True], ids=["fin", "reset"])
async def test_a_disconnect_from_a_stream_cancels_all_attempts(
    moment: _Moment, reset: bool
) -> None:
    async with moment.service() as (service, reply), moment.stream(service, reply) as stream:
        attempts = reply.attempts
        disconnected_at = stream.disconnect(reset=reset)
        for attempt in reply.held:
            cancelled_at = await asyncio.wait_for(attempt.disconnected, 2)
            assert cancelled_at - disconnected_at < _CANCELLED_WITHIN + NOISE
        assert await service.leaks() == []
        assert reply.attempts == attempts


@_AT_EACH_MOMENT
async def test_a_disconnect_from_a_stream_frees_the_data_of_completed_sections(
    moment: _Moment, retained: Callable[[], int]
) -> None:
    async with moment.service() as (service, reply):
        async with moment.stream(service, reply) as stream:
            assert retained() >= moment.chunks
            stream.disconnect()
            assert await service.leaks() == []
        assert retained() == 0


async def test_a_disconnect_from_a_json_batch_cancels_its_attempts_and_frees_its_data(
    retained: Callable[[], int],
) -> None:
    moment = _MOMENTS["after an ndjson line"]
    async with moment.service() as (service, reply):
        client = asyncio.create_task(service.get(_OVERVIEWS))
        assert await eventually(lambda: len(reply.held) == _FAN_OUT)
        assert retained() >= len(_NAMES)
        disconnected_at = perf_counter()
        client.cancel()
        for attempt in reply.held:
            cancelled_at = await asyncio.wait_for(attempt.disconnected, 2)
            assert cancelled_at - disconnected_at < _CANCELLED_WITHIN + NOISE
        assert await service.leaks() == []
        assert retained() == 0


async def test_a_disconnect_from_a_stream_does_not_cancel_a_coalesced_call() -> None:
    release = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await release.wait()
        await good(exchange)

    async with (
        running_service({"posts": held}, _NO_TIMEOUT, request_timeout=9) as service,
        service.stream(_OVERVIEW, SSE) as leaving,
        service.stream(_OVERVIEW, SSE) as staying,
    ):
        for stream in (leaving, staying):
            assert len((await stream.next_chunk()).events) == 1
        leaving.disconnect()
        await asyncio.sleep(0.1)  # no event says that an attempt goes on
        release.set()
        last = [event async for chunk in staying for event in chunk.events][-1]
        assert last == ("done", {"user_id": 1, "complete": True, "status": 200})
        assert len(service.upstreams["posts"].exchanges) == 1
        assert await service.leaks() == []


async def test_a_hundred_disconnects_at_random_times_leak_nothing(
    retained: Callable[[], int],
) -> None:
    chance = random.Random(4)
    large = _PartialReply(lambda path, user: True)

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(chance.uniform(0, 0.03))
        await large(exchange)

    replies = dict.fromkeys(_NAMES, slow)
    async with running_service(replies, log_level="error", request_timeout=9) as service:

        async def client(window: int | None) -> None:
            for path, accept in ((_OVERVIEW, SSE), (_OVERVIEWS, NDJSON)) * 5:
                async with service.stream(path, accept, window=window) as stream:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(chance.uniform(0, 0.15)):
                            assert all([chunk.data async for chunk in stream])

        await asyncio.gather(*(client(window) for window in (None, 4096) * 5))
        assert await service.leaks() == []
        gc.collect()
        assert retained() == 0
        assert (await service.overview()).json["complete"] is True
