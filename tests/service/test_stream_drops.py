"""A stream whose client leaves ends at once, and lets go of all that it had."""

import asyncio
import gc
import random
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import pytest

from app.call import Data
from tests.service.replies import good, never, saying
from tests.service.running import EVENTS, LINES, NOISE, Running, Stream, eventually, running
from tests.service.test_process import _started, _told
from tests.service.upstream import Exchange, Reply, Upstream

pytestmark = pytest.mark.anyio

_PROMPT = 0.1
_FAN_OUT = 10
_NAMES = ("users", "posts", "todos")
_PATIENT = {"attempt_timeout": 9.0, "retries": 0}
_OVERVIEW = "/v1/users/1/overview"
_OVERVIEWS = "/v1/overviews?" + "&".join(f"user_id={user}" for user in range(1, 101))
_LARGE = b"x" * 500_000


@dataclass
class _Some:
    """Answers some attempts, and never the others, which are `held`."""

    answered: Callable[[str, int], bool]
    """By path and user."""
    held: list[Exchange] = field(default_factory=list)
    seen: int = 0

    async def __call__(self, exchange: Exchange) -> None:
        self.seen += 1
        path, _, query = exchange.target.partition("?userId=")
        user = int(query or path.rpartition("/")[2])
        if not self.answered(path, user):
            self.held.append(exchange)
            await never(exchange)
        elif path == "/posts":
            await saying(b'[{"userId":%d,"id":1,"title":"","body":"%b"}]' % (user, _LARGE))(
                exchange
            )
        else:
            await good(exchange)


@dataclass(frozen=True)
class _Moment:
    """When a client leaves: it has `taken` pieces, and `held` attempts for it are unanswered."""

    path: str
    accept: str
    answered: Callable[[str, int], bool]
    held: int
    taken: int = 0
    window: int | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[Running, _Some]]:
        some = _Some(self.answered)
        replies: dict[str, Reply] = dict.fromkeys(_NAMES, some)
        async with running(
            replies, _PATIENT, request_timeout=9, fan_out=_FAN_OUT, log_level="error"
        ) as service:
            yield service, some

    @asynccontextmanager
    async def reached(self, service: Running, some: _Some) -> AsyncIterator[Stream]:
        some.held.clear()
        async with service.stream(self.path, self.accept, window=self.window) as stream:
            for _ in range(self.taken):
                await stream.piece()
            assert await eventually(lambda: len(some.held) == self.held)
            seen = 0
            while self.window and seen < some.seen:  # nobody announces what does not happen
                seen = some.seen
                await asyncio.sleep(0.2)
            yield stream


_MOMENTS = {
    "before an event": _Moment(_OVERVIEW, EVENTS, lambda path, user: False, 3),
    "after an event": _Moment(_OVERVIEW, EVENTS, lambda path, user: "users" in path, 2, taken=1),
    "before a line": _Moment(_OVERVIEWS, LINES, lambda path, user: False, _FAN_OUT),
    "after a line": _Moment(_OVERVIEWS, LINES, lambda path, user: user == 1, _FAN_OUT, taken=1),
    "not reading": _Moment(
        _OVERVIEWS + "&include=posts", LINES, lambda path, user: user != 3, 1, window=4096
    ),
}
_AT_ANY_MOMENT = pytest.mark.parametrize("moment", _MOMENTS.values(), ids=_MOMENTS)


@pytest.fixture
def kept() -> Iterator[Callable[[], int]]:
    """How many answers of upstreams are held, without a garbage collector to clear up.

    It is tuned to come late in production: what waits for it piles up. A few wait all the same,
    because `asyncio.timeout` leaves a cycle in a task that is cancelled within it.
    """

    def held() -> int:
        return sum(isinstance(one, Data) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    before = held()
    yield lambda: held() - before
    gc.enable()


@_AT_ANY_MOMENT
@pytest.mark.parametrize("reset", [False, True], ids=["hangs up", "resets"])
async def test_who_leaves_takes_all_attempts_along(moment: _Moment, reset: bool) -> None:
    async with moment.serving() as (service, some), moment.reached(service, some) as stream:
        seen = some.seen
        left = stream.leave(reset=reset)
        for attempt in some.held:
            assert await asyncio.wait_for(attempt.gone, 2) - left < _PROMPT + NOISE
        assert await service.leftovers() == []
        assert some.seen == seen


@_AT_ANY_MOMENT
async def test_what_had_landed_goes_with_the_client(
    moment: _Moment, kept: Callable[[], int]
) -> None:
    async with moment.serving() as (service, some):
        async with moment.reached(service, some) as stream:
            assert kept() >= moment.taken
            stream.leave()
            assert await service.leftovers() == []
        assert kept() == 0


async def test_a_batch_in_one_piece_goes_with_its_client(kept: Callable[[], int]) -> None:
    moment = _MOMENTS["after a line"]
    async with moment.serving() as (service, some):
        asking = asyncio.create_task(service.get(_OVERVIEWS))
        assert await eventually(lambda: len(some.held) == _FAN_OUT)
        assert kept() == len(_NAMES)
        left = perf_counter()
        asking.cancel()
        for attempt in some.held:
            assert await asyncio.wait_for(attempt.gone, 2) - left < _PROMPT + NOISE
        assert await service.leftovers() == []
        assert kept() == 0


async def test_who_stays_gets_what_is_shared_with_somebody_who_left() -> None:
    decide = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await decide.wait()
        await good(exchange)

    async with (
        running({"posts": held}, _PATIENT, request_timeout=9) as service,
        service.stream(_OVERVIEW, EVENTS) as leaving,
        service.stream(_OVERVIEW, EVENTS) as staying,
    ):
        for stream in (leaving, staying):
            assert len((await stream.piece()).events) == 1
        leaving.leave()
        await asyncio.sleep(0.1)  # nobody announces that an attempt goes on
        decide.set()
        last = [event async for piece in staying for event in piece.events][-1]
        assert last == ("done", {"user_id": 1, "complete": True, "status": 200})
        assert len(service.upstreams["posts"].seen) == 1
        assert await service.leftovers() == []


async def test_a_hundred_who_leave_at_any_time_leave_nothing_behind(
    kept: Callable[[], int],
) -> None:
    chance = random.Random(4)
    large = _Some(lambda path, user: True)

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(chance.uniform(0, 0.03))
        await large(exchange)

    replies = dict.fromkeys(_NAMES, slow)
    async with running(replies, log_level="error", request_timeout=9) as service:

        async def client(window: int | None) -> None:
            for path, accept in ((_OVERVIEW, EVENTS), (_OVERVIEWS, LINES)) * 5:
                async with service.stream(path, accept, window=window) as stream:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(chance.uniform(0, 0.15)):
                            assert all([piece.data async for piece in stream])

        await asyncio.gather(*(client(window) for window in (None, 4096) * 5))
        assert await service.leftovers() == []
        gc.collect()
        assert kept() == 0
        assert (await service.overview()).json["complete"] is True


@pytest.mark.parametrize("accept", [LINES, "application/json"], ids=["lines", "JSON"])
async def test_a_client_that_does_not_read_does_not_keep_the_service_from_stopping(
    tmp_path: Path, accept: str
) -> None:
    large = _Some(lambda path, user: True)
    async with Upstream(large) as upstream, AsyncExitStack() as stack:
        url = f"http://127.0.0.1:{upstream.port}"
        process = await stack.enter_async_context(
            _started(tmp_path, UPSTREAM_URL=url, REQUEST_TIMEOUT="1", REQUEST_TIMEOUT_MAX="1")
        )
        listening = await _told(process, "listening")
        url = "{0.scheme}://{0.netloc}".format(urlsplit(listening["overview"]))
        async with Stream(url, _OVERVIEWS, accept, window=4096):
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


_ALL_OF_THE_DEMO = "/v1/overviews?" + "&".join(f"user_id={user}" for user in range(1, 11))


@pytest.mark.parametrize("signals", [1, 2], ids=["once", "twice"])
@pytest.mark.parametrize(
    ("path", "accept", "faults", "parts"),
    [(_OVERVIEW, EVENTS, "posts=slow", 4), (_ALL_OF_THE_DEMO, LINES, "", 10)],
    ids=["events", "lines"],
)
async def test_a_service_that_is_told_to_stop_finishes_its_streams_unless_told_twice(
    tmp_path: Path, path: str, accept: str, faults: str, parts: int, signals: int
) -> None:
    async with _started(tmp_path, DEMO_LATENCY="0.2", FAN_OUT="3") as process:
        listening = await _told(process, "listening")
        url = "{0.scheme}://{0.netloc}".format(urlsplit(listening["overview"]))
        async with Stream(
            url, path, accept, X_Demo_Fault=faults, X_Request_Timeout_Ms="9000"
        ) as stream:
            pieces = [await stream.piece()]
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)  # it looks ten times a second
            broken = pytest.raises(ConnectionError) if signals == 2 else nullcontext()
            with broken:
                async for piece in stream:
                    pieces.append(piece)  # noqa: PERF401 - those that came before it broke, too
        told = sum(len(piece.events if accept == EVENTS else piece.lines) for piece in pieces)
        assert (told == parts) is (signals == 1)
        assert await process.wait() == signals - 1
