"""Answers that come piece by piece: how soon, and what a hundred of them at once do to others."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

from chaos.figures import Figure, at_most, exactly, percentile, told
from chaos.load import closed_loop, users
from chaos.service import NAMES, Answered, Service, served
from chaos.upstreams import three, urls
from tests.service.replies import after, good
from tests.service.running import EVENTS, LINES, NOISE, Stream
from tests.service.upstream import Exchange, Upstream

_TIMES = {"user": ("USERS", 0.02), "posts": ("POSTS", 0.05), "todos": ("TODOS", 0.1)}
_PROMPT = 0.01
"""Seconds after its upstream in which a section is with the client."""

_USERS = 100
_FAN_OUT = 10
_CALL = 0.05
_ROUNDS = 3
_NEIGHBOURS = 4


async def sections(directory: Path) -> AsyncIterator[Figure]:
    """One client at a time, three upstreams of different speed: when does each section come?"""
    replies = {name: after(seconds) for name, seconds in _TIMES.values()}
    late: dict[str, list[float]] = defaultdict(list)
    first: list[float] = []
    async with (
        three(replies) as upstreams,
        served(directory, {}, **urls(upstreams)) as service,
    ):
        for _ in range(100):
            seen = await _watched(service, upstreams)
            first.append(min(came for came, _ in seen.values()))
            for name, (came, ended) in seen.items():
                late[name].append(came - ended)
    fastest = min(seconds for _, seconds in _TIMES.values())
    name = "sections, time to the first beyond the fastest upstream"
    yield at_most(f"{name}, median", median(first) - fastest, _PROMPT, "ms")
    yield at_most(f"{name}, longest", max(first) - fastest, _PROMPT + NOISE, "ms")
    for section, (_, seconds) in _TIMES.items():
        name = f"sections, {section} beyond its upstream's {seconds * 1000:.0f} ms"
        yield at_most(f"{name}, median", median(late[section]), _PROMPT, "ms")
        yield at_most(f"{name}, longest", max(late[section]), _PROMPT + NOISE, "ms")


async def _watched(
    service: Service, upstreams: dict[str, Upstream]
) -> dict[str, tuple[float, float]]:
    """When each section came, since it was asked for, and when its upstream had told it all."""
    path = f"/v1/users/{next(users)}/overview"
    came: dict[str, float] = {}
    async with Stream(service.url, path, EVENTS) as stream:
        async for piece in stream:
            for event, data in piece.events:
                if event == "section":
                    assert data["section"]["status"] == "ok"
                    came[data["name"]] = piece.came - stream.asked
        asked = stream.asked
    ended = {name: upstreams[upstream].seen[-1].ended for name, (upstream, _) in _TIMES.items()}
    return {name: (came[name], (end or 0.0) - asked) for name, end in ended.items()}


class _Counting:
    """Good after `seconds`; counts the attempts in flight for each request of a client."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        whose = exchange.headers["x-request-id"]
        self._now[whose] += 1
        self.most[whose] = max(self.most[whose], self._now[whose])
        try:
            if self._seconds:
                await asyncio.sleep(self._seconds)
        finally:
            self._now[whose] -= 1
        await good(exchange)


async def batch(directory: Path) -> AsyncIterator[Figure]:
    """A hundred users in one request: within its own bound, and hardly felt by single requests."""
    async for figure in _batches(directory, "batch", _CALL):
        yield figure
    # Without a wait for anything, the batch takes the core that the others need as well.
    async for figure in _batches(directory, "batch, upstreams in no time", 0.0):
        yield told(figure.name, figure.value)


async def _batches(directory: Path, name: str, seconds: float) -> AsyncIterator[Figure]:
    counting = _Counting(seconds)
    async with (
        three(dict.fromkeys(NAMES, counting)) as upstreams,
        served(directory, {}, **urls(upstreams), FAN_OUT=_FAN_OUT, BATCH_MAX=_USERS) as service,
    ):
        await _asked(service, LINES)
        least = _USERS * len(NAMES) * seconds / _FAN_OUT
        for kind, accept in (("JSON", "application/json"), ("NDJSON", LINES)):
            asked = [await _asked(service, accept) for _ in range(_ROUNDS)]
            took = median(one.seconds for one in asked)
            if least:
                yield at_most(f"{name}, {kind}, time of its bound", took / least, 1.15, "%")
            yield told(f"{name}, {kind}, time", f"{took * 1000:.0f} ms")
            yield exactly(f"{name}, {kind}, complete", sum(one.complete for one in asked), _ROUNDS)
        alone, beside = [], []
        for _ in range(_ROUNDS):
            alone += await _neighbours(service)
            async with _batches_all_the_time(service):
                beside += await _neighbours(service)
        before, after = median(alone), median(beside)
        yield at_most(f"{name}, p50 of others beside it, of that without", after / before, 1.2, "%")
        yield told(f"{name}, p50 of others", f"{before * 1000:.1f} ms, {after * 1000:.1f} ms")
        late = percentile(alone, 0.99), percentile(beside, 0.99)
        yield told(f"{name}, p99 of others", f"{late[0] * 1000:.1f} ms, {late[1] * 1000:.1f} ms")
        if least:
            yield at_most(f"{name}, attempts in flight", max(counting.most.values()), _FAN_OUT)


@dataclass(frozen=True, slots=True)
class _Asked:
    seconds: float
    complete: bool


async def _asked(service: Service, accept: str) -> _Asked:
    """A batch of users whom nobody has asked for before."""
    those = list(islice(users, _USERS))
    path = "/v1/overviews?" + "&".join(f"user_id={user}" for user in those)
    if accept == LINES:
        async with Stream(service.url, path, accept, X_Request_Timeout_Ms="10000") as stream:
            items = [item async for piece in stream for item in piece.lines]
        seconds = perf_counter() - stream.asked
    else:
        answer = await service.get(path, Accept=accept, X_Request_Timeout_Ms="10000")
        seconds, items = answer.seconds, answer.json["items"]
        assert [item["user_id"] for item in items] == those
    complete = sum(item["status"] == "ok" and item["overview"]["complete"] for item in items)
    return _Asked(seconds, complete == _USERS)


async def _neighbours(service: Service) -> list[float]:
    """How long each overview takes that some other clients ask for meanwhile."""

    async def ask() -> Answered:
        return await service.overview(next(users))

    answers = await closed_loop(ask, _NEIGHBOURS, 2)
    assert all(one.complete for one in answers)
    return [one.seconds for one in answers]


@asynccontextmanager
async def _batches_all_the_time(service: Service) -> AsyncIterator[None]:
    async def again_and_again() -> None:
        while True:
            await _asked(service, LINES)

    asking = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
