"""A thousand clients disconnect from streams: their attempts are cancelled, and nothing leaks."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from math import inf
from pathlib import Path

from chaos.figures import Figure, at_most, exactly, info, percentile
from chaos.leaks import INSPECTABLE, dump, holds_permits, increase
from chaos.service import NAMES, Service, service_process
from chaos.upstreams import three_upstreams, url_settings
from tests.service.replies import good, never, respond_with
from tests.service.running import NOISE
from tests.service.stream import NDJSON, SSE, Stream
from tests.service.upstream import Exchange, Reply

_CLIENTS = 4
_ROUNDS = (2, 10, 10, 10, 10, 10)
"""How often each client disconnects from a stream of each kind."""
_CANCELLED_WITHIN = 0.1
_BATCH = 100
_BODY = b"x" * 500_000
"""Of each user's post: large, so that a leak shows."""
_MAX_GROWTH = 16.0
_FAN_OUT = 10
_SETTINGS = {"REQUEST_TIMEOUT": 30, "REQUEST_TIMEOUT_MAX": 30, "FAN_OUT": _FAN_OUT}


def _overview(user: int) -> str:
    return f"/v1/users/{user}/overview"


def _overviews(user: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user + n}" for n in range(_BATCH))


def _posts(user: int) -> str:
    return _overviews(user) + "&include=posts"


@dataclass(frozen=True, slots=True)
class _Kind:
    """When a client disconnects: after `chunks`, while `held` attempts of it have no response.

    With a small `window` the service also waits for the client to read.
    """

    name: str
    accept: str
    path: Callable[[int], str]
    responds: Callable[[str, int], bool]
    """Whether an attempt gets a response, by its path and its user's place in the batch."""
    held: int
    chunks: int = 0
    window: int | None = None


_KINDS = (
    _Kind("no event yet", SSE, _overview, lambda path, n: False, len(NAMES)),
    _Kind("after an event", SSE, _overview, lambda path, n: "users" in path, 2, chunks=1),
    _Kind("no line yet", NDJSON, _overviews, lambda path, n: False, _FAN_OUT),
    _Kind("after a line", NDJSON, _overviews, lambda path, n: n == 0, _FAN_OUT, chunks=1),
    _Kind("not reading", NDJSON, _posts, lambda path, n: n != 3, held=1, window=4096),
)


@dataclass(slots=True)
class _PartialReply:
    """Counts the attempts by request id, which begins with the number of their kind."""

    held: dict[str, list[Exchange]] = field(default_factory=lambda: defaultdict(list))
    arrived: Counter[str] = field(default_factory=Counter)

    async def __call__(self, exchange: Exchange) -> None:
        request_id = exchange.headers["x-request-id"]
        self.arrived[request_id] += 1
        path, _, query = exchange.target.partition("?userId=")
        user = int(query or path.rpartition("/")[2])
        if _KINDS[int(request_id[0])].responds(path, user % _BATCH):
            await (_large_post(user) if path == "/posts" else good)(exchange)
        else:
            self.held[request_id].append(exchange)
            await never(exchange)


def _large_post(user: int) -> Reply:
    return respond_with(b'[{"userId":%d,"id":1,"title":"Long","body":"%b"}]' % (user, _BODY))


async def disconnect(directory: Path) -> AsyncIterator[Figure]:
    """Before the first part, after it, and while the service waits for the client to read."""
    dump_path = directory / "dump.json"
    reply = _PartialReply()
    delays: dict[str, list[float]] = defaultdict(list)
    memory = []
    each = {"ATTEMPT_TIMEOUT": 30}
    async with (
        three_upstreams(dict.fromkeys(NAMES, reply)) as upstreams,
        service_process(
            directory,
            each,
            INSPECTABLE,
            CHAOS_DUMP=dump_path,
            **_SETTINGS,
            **url_settings(upstreams),
        ) as service,
    ):
        numbers = count()

        async def client(times: int) -> None:
            """No user comes twice: one that hangs until its clients leave is soon in quarantine."""
            for _ in range(times):
                for kind in range(len(_KINDS)):
                    number = next(numbers)
                    user, request_id = (1 + number) * _BATCH, f"{kind}-{number}"
                    delays[_KINDS[kind].name].append(
                        await _cancellation_delay(service, reply, request_id, user)
                    )

        before = dump(service, dump_path)
        sockets = service.sockets()
        for times in _ROUNDS:
            await asyncio.gather(*(client(times) for _ in range(_CLIENTS)))
            memory.append(service.memory() / 2**20)
        for kind, seconds in delays.items():
            name = f"disconnect, {kind}, {len(seconds)} times"
            p99 = percentile(seconds, 0.99)
            yield at_most(f"{name}, p99 until cancelled", p99, _CANCELLED_WITHIN, "ms")
            yield at_most(f"{name}, longest", max(seconds), _CANCELLED_WITHIN + NOISE, "ms")
        yield info("disconnect, memory after each round", ", ".join(f"{one:.0f}" for one in memory))
        growth = memory[-1] - memory[0]
        yield at_most("disconnect, memory grown since the first", growth, _MAX_GROWTH, "MiB")
        yield exactly("disconnect, errors in the log", len(service.logged_errors()), 0)
        health = await service.health()
        yield exactly("disconnect, permits or queues held", holds_permits(health), False)
        # Idle connections are closed after 4 s.
        await _until(lambda: not any(one.open for one in upstreams.values()))
        yield exactly("disconnect, sockets more than before", service.sockets() - sockets, 0)
        after = dump(service, dump_path)
        for what in ("tasks", "objects"):
            more = increase(before[what], after[what])
            yield exactly(f"disconnect, {what} more than before", more or 0, 0)


async def _cancellation_delay(
    service: Service, reply: _PartialReply, request_id: str, user: int
) -> float:
    """Seconds from a client's disconnect until the last of its attempts is cancelled."""
    kind = _KINDS[int(request_id[0])]
    path = kind.path(user)
    async with Stream(
        service.url, path, kind.accept, window=kind.window, X_Request_ID=request_id
    ) as stream:
        for _ in range(kind.chunks):
            await stream.next_chunk()
        await _until(lambda: len(reply.held[request_id]) == kind.held)
        arrived = 0
        while kind.window and arrived < reply.arrived[request_id]:
            arrived = reply.arrived[request_id]
            await asyncio.sleep(0.2)
        disconnected_at = stream.disconnect()
    try:
        async with asyncio.timeout(2):
            cancelled_at = [await exchange.disconnected for exchange in reply.held[request_id]]
    except TimeoutError:
        return inf
    return max(cancelled_at) - disconnected_at


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)
