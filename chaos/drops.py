"""A thousand clients leave in the middle of a stream: nothing goes on, and nothing stays."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from statistics import median

from chaos.figures import Figure, at_most, exactly, percentile, told
from chaos.load import closed_loop, users
from chaos.service import NAMES, Service, served
from chaos.soak import _busy, _errors, _held
from chaos.upstreams import three, urls
from tests.service.replies import after, good, never, saying
from tests.service.running import EVENTS, LINES, NOISE, Stream
from tests.service.upstream import Exchange, Reply

_CLIENTS = 4
_ROUNDS = (2, 10, 10, 10, 10, 10)
"""How often each client leaves a stream of each kind."""
_PROMPT = 0.1
_FAN_OUT = 10
_BATCH = 100
_BODY = b"x" * 500_000
"""Of each user's post: if something stays, it is not small."""
_GROWTH = 16.0
_BOUNDS = {"REQUEST_TIMEOUT": 30, "REQUEST_TIMEOUT_MAX": 30, "FAN_OUT": _FAN_OUT}


def _overview(user: int) -> str:
    return f"/v1/users/{user}/overview"


def _overviews(user: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user + n}" for n in range(_BATCH))


def _posts(user: int) -> str:
    return _overviews(user) + "&include=posts"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A client that leaves when it has `taken` so many pieces and the service is waiting.

    That is for so many attempts that are never answered, or for the client to read.
    """

    name: str
    accept: str
    path: Callable[[int], str]
    answered: Callable[[str, int], bool]
    """Whether an attempt is, by its path and its user's place in the batch."""
    held: int
    taken: int = 0
    window: int | None = None


_KINDS = (
    _Kind("no event yet", EVENTS, _overview, lambda path, n: False, len(NAMES)),
    _Kind("after an event", EVENTS, _overview, lambda path, n: "users" in path, 2, taken=1),
    _Kind("no line yet", LINES, _overviews, lambda path, n: False, _FAN_OUT),
    _Kind("after a line", LINES, _overviews, lambda path, n: n == 0, _FAN_OUT, taken=1),
    _Kind(*("not reading", LINES, _posts, lambda path, n: n != 3), held=1, window=4096),
)


@dataclass(slots=True)
class _Attempts:
    """What all upstreams saw, by whom it was made for: the number of its kind and its own."""

    held: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    arrived: Counter[str] = field(default_factory=Counter)

    async def __call__(self, exchange: Exchange) -> None:
        whose = exchange.headers["x-request-id"]
        self.arrived[whose] += 1
        path, _, query = exchange.target.partition("?userId=")
        user = int(query or path.rpartition("/")[2])
        if _KINDS[int(whose[0])].answered(path, user % _BATCH):
            await (_large(user) if path == "/posts" else good)(exchange)
        else:
            self.held[whose].append(exchange)
            await never(exchange)


def _large(user: int) -> Reply:
    return saying(b'[{"userId":%d,"id":1,"title":"Long","body":"%b"}]' % (user, _BODY))


async def drops(directory: Path) -> AsyncIterator[Figure]:
    """Before anything has landed, after a part has, and while the service waits for the client."""
    held = directory / "held.json"
    attempts = _Attempts()
    late: dict[str, list[float]] = defaultdict(list)
    memory = []
    each = {"ATTEMPT_TIMEOUT": 30}
    async with (
        three(dict.fromkeys(NAMES, attempts)) as upstreams,
        served(
            directory, each, "chaos.watched", CHAOS_HELD=held, **_BOUNDS, **urls(upstreams)
        ) as service,
    ):
        numbers = count()

        async def client(place: int, times: int) -> None:
            """Always the same users: what may be kept for the next request is so from the start."""
            for _ in range(times):
                for kind in range(len(_KINDS)):
                    user = (1 + place * len(_KINDS) + kind) * _BATCH
                    whose = f"{kind}-{next(numbers)}"
                    late[_KINDS[kind].name].append(await _drop(service, attempts, whose, user))

        calm = _held(service, held)
        sockets = service.sockets()
        for times in _ROUNDS:
            await asyncio.gather(*(client(place, times) for place in range(_CLIENTS)))
            memory.append(service.memory() / 2**20)
        for kind, seconds in late.items():
            name = f"drops, {kind}, {len(seconds)} times"
            yield at_most(f"{name}, p99 until cancelled", percentile(seconds, 0.99), _PROMPT, "ms")
            yield at_most(f"{name}, longest", max(seconds), _PROMPT + NOISE, "ms")
        yield told("drops, memory after each round", ", ".join(f"{one:.0f}" for one in memory))
        yield at_most("drops, memory grown since the first", memory[-1] - memory[0], _GROWTH, "MiB")
        yield exactly("drops, errors in the log", len(_errors(service)), 0)
        health = await service.health()
        yield exactly("drops, permits or queues held", _busy(health), False)
        # Idle ones last 4 s.
        await _until(lambda: not any(one.open for one in upstreams.values()))
        yield exactly("drops, sockets more than before", service.sockets() - sockets, 0)
        now = _held(service, held)
        for what in ("tasks", "objects"):
            more = Counter(now[what])
            more.subtract(calm[what])
            left = {name: number for name, number in more.items() if number > 0}
            yield exactly(f"drops, {what} more than before", left or 0, 0)


async def _drop(service: Service, attempts: _Attempts, whose: str, user: int) -> float:
    """Seconds after a client has left until the last of its attempts is seen to be cancelled."""
    kind = _KINDS[int(whose[0])]
    path = kind.path(user)
    async with Stream(
        service.url, path, kind.accept, window=kind.window, X_Request_ID=whose
    ) as stream:
        for _ in range(kind.taken):
            await stream.piece()
        await _until(lambda: len(attempts.held[whose]) == kind.held)
        arrived = 0
        while kind.window and arrived < attempts.arrived[whose]:
            arrived = attempts.arrived[whose]
            await asyncio.sleep(0.2)
        left = stream.leave()
    try:
        async with asyncio.timeout(2):
            gone = [await exchange.gone for exchange in attempts.held[whose]]
    except TimeoutError:
        return inf
    return max(gone) - left


_READERS = 5


async def unread(directory: Path) -> AsyncIterator[Figure]:
    """Clients that ask for much and do not read, for two seconds; then they read it all."""
    small = after(0.02)

    async def large(exchange: Exchange) -> None:
        path, _, user = exchange.target.partition("?userId=")
        await (_large(int(user)) if path == "/posts" else small)(exchange)

    async with (
        three(dict.fromkeys(NAMES, large)) as upstreams,
        served(directory, {}, "app", **_BOUNDS, **urls(upstreams)) as service,
        AsyncExitStack() as readers,
    ):

        async def others() -> float:
            """The median of what they wait for sections that are small."""
            query = "?include=user,todos"
            ask = partial(service.overview, query=query)
            return median(one.seconds for one in await closed_loop(lambda: ask(next(users)), 2, 2))

        before, alone = service.memory(), await others()
        paths = [_overviews((1 + place) * _BATCH) for place in range(_READERS)]
        streams = [
            await readers.enter_async_context(Stream(service.url, path, LINES, window=4096))
            for path in paths
        ]
        beside = await others()
        held = (service.memory() - before) / 2**20
        health = await service.health()
        all_of_it = _READERS * _BATCH * len(_BODY) / 2**20
        name = f"unread, {_READERS} times {_BATCH} users"
        # For each attempt that it may have in flight, what came of it, and as much on its way out.
        bound = _READERS * 2 * _FAN_OUT * len(_BODY) / 2**20
        yield at_most(f"{name}, memory of {all_of_it:.0f} MiB", held, bound, "MiB")
        yield exactly(f"{name}, permits or queues held", _busy(health), False)
        yield at_most(f"{name}, p50 of others, of that before", beside / alone, 1.2, "%")
        whole = 0
        for stream in streams:
            async for piece in stream:
                whole += sum(item["overview"]["complete"] for item in piece.lines)
        yield exactly(f"{name}, complete in the end", whole, _READERS * _BATCH)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.005)
