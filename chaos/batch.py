"""Streams and batches: how soon each part is sent, and how batches affect other requests."""

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

from chaos.figures import Figure, at_most, exactly, info, percentile
from chaos.load import closed_loop, users
from chaos.service import NAMES, Response, Service, service_process
from chaos.upstreams import three_upstreams, url_settings
from tests.service.replies import delayed, good
from tests.service.running import NOISE
from tests.service.stream import NDJSON, SSE, Stream
from tests.service.upstream import Exchange, Upstream

_LATENCIES = {"user": ("USERS", 0.02), "posts": ("POSTS", 0.05), "todos": ("TODOS", 0.1)}
_MAX_DELAY = 0.01
"""Seconds after its upstream's response in which a section must reach the client."""

_USERS = 100
_FAN_OUT = 10
_LATENCY = 0.05
_ROUNDS = 3
_OTHER_CLIENTS = 4


async def sections(directory: Path) -> AsyncIterator[Figure]:
    """One client at a time, three upstreams of different latency: when does each section come?"""
    replies = {name: delayed(seconds) for name, seconds in _LATENCIES.values()}
    delays: dict[str, list[float]] = defaultdict(list)
    first: list[float] = []
    async with (
        three_upstreams(replies) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        for _ in range(100):
            times = await _section_times(service, upstreams)
            first.append(min(received for received, _ in times.values()))
            for name, (received, ended) in times.items():
                delays[name].append(received - ended)
    fastest = min(seconds for _, seconds in _LATENCIES.values())
    name = "sections, time to the first beyond the fastest upstream"
    yield at_most(f"{name}, median", median(first) - fastest, _MAX_DELAY, "ms")
    yield at_most(f"{name}, longest", max(first) - fastest, _MAX_DELAY + NOISE, "ms")
    for section, (_, seconds) in _LATENCIES.items():
        name = f"sections, {section} beyond its upstream's {seconds * 1000:.0f} ms"
        yield at_most(f"{name}, median", median(delays[section]), _MAX_DELAY, "ms")
        yield at_most(f"{name}, longest", max(delays[section]), _MAX_DELAY + NOISE, "ms")


async def _section_times(
    service: Service, upstreams: dict[str, Upstream]
) -> dict[str, tuple[float, float]]:
    """Seconds from the request until each section was received, and until its upstream ended."""
    path = f"/v1/users/{next(users)}/overview"
    received: dict[str, float] = {}
    async with Stream(service.url, path, SSE) as stream:
        async for chunk in stream:
            for event, data in chunk.events:
                if event == "section":
                    assert data["section"]["status"] == "ok"
                    received[data["name"]] = chunk.received_at - stream.sent_at
        sent_at = stream.sent_at
    ended = {
        name: upstreams[upstream].exchanges[-1].ended for name, (upstream, _) in _LATENCIES.items()
    }
    return {name: (received[name], (end or 0.0) - sent_at) for name, end in ended.items()}


class _CountingReply:
    """Good after `seconds`; counts the attempts in flight for each client request."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._in_flight: Counter[str] = Counter()
        self.max_in_flight: Counter[str] = Counter()

    async def __call__(self, exchange: Exchange) -> None:
        request_id = exchange.headers["x-request-id"]
        self._in_flight[request_id] += 1
        self.max_in_flight[request_id] = max(
            self.max_in_flight[request_id], self._in_flight[request_id]
        )
        try:
            if self._seconds:
                await asyncio.sleep(self._seconds)
        finally:
            self._in_flight[request_id] -= 1
        await good(exchange)


async def batch(directory: Path) -> AsyncIterator[Figure]:
    """A hundred users in one request: close to its ideal time, with little effect on others."""
    async for figure in _batches(directory, "batch", _LATENCY):
        yield figure
    # Without upstream latency, the batch takes the core that the other requests need as well.
    async for figure in _batches(directory, "batch, upstreams in no time", 0.0):
        yield info(figure.name, figure.value)


async def _batches(directory: Path, name: str, latency: float) -> AsyncIterator[Figure]:
    counting = _CountingReply(latency)
    async with (
        three_upstreams(dict.fromkeys(NAMES, counting)) as upstreams,
        service_process(
            directory, {}, **url_settings(upstreams), FAN_OUT=_FAN_OUT, BATCH_MAX=_USERS
        ) as service,
    ):
        await _run_batch(service, NDJSON)
        ideal = _USERS * len(NAMES) * latency / _FAN_OUT
        for kind, accept in (("JSON", "application/json"), ("NDJSON", NDJSON)):
            batches = [await _run_batch(service, accept) for _ in range(_ROUNDS)]
            seconds = median(one.seconds for one in batches)
            if ideal:
                yield at_most(f"{name}, {kind}, time of its bound", seconds / ideal, 1.15, "%")
            yield info(f"{name}, {kind}, time", f"{seconds * 1000:.0f} ms")
            complete = sum(one.complete for one in batches)
            yield exactly(f"{name}, {kind}, complete", complete, _ROUNDS)
        alone, beside = [], []
        for _ in range(_ROUNDS):
            alone += await _other_requests(service)
            async with _batches_meanwhile(service):
                beside += await _other_requests(service)
        before, after = median(alone), median(beside)
        yield at_most(f"{name}, p50 of others beside it, of that without", after / before, 1.2, "%")
        yield info(f"{name}, p50 of others", f"{before * 1000:.1f} ms, {after * 1000:.1f} ms")
        p99s = percentile(alone, 0.99), percentile(beside, 0.99)
        yield info(f"{name}, p99 of others", f"{p99s[0] * 1000:.1f} ms, {p99s[1] * 1000:.1f} ms")
        if ideal:
            max_in_flight = max(counting.max_in_flight.values())
            yield at_most(f"{name}, attempts in flight", max_in_flight, _FAN_OUT)


@dataclass(frozen=True, slots=True)
class _Batch:
    seconds: float
    complete: bool


async def _run_batch(service: Service, accept: str) -> _Batch:
    """A batch of new users."""
    user_ids = list(islice(users, _USERS))
    path = "/v1/overviews?" + "&".join(f"user_id={user}" for user in user_ids)
    if accept == NDJSON:
        async with Stream(service.url, path, accept, X_Request_Timeout_Ms="10000") as stream:
            items = [item async for chunk in stream for item in chunk.lines]
        seconds = perf_counter() - stream.sent_at
    else:
        response = await service.get(path, Accept=accept, X_Request_Timeout_Ms="10000")
        seconds, items = response.seconds, response.json["items"]
        assert [item["user_id"] for item in items] == user_ids
    complete = sum(item["status"] == "ok" and item["overview"]["complete"] for item in items)
    return _Batch(seconds, complete == _USERS)


async def _other_requests(service: Service) -> list[float]:
    """How long single overviews take, in seconds."""

    async def request() -> Response:
        return await service.overview(next(users))

    responses = await closed_loop(request, _OTHER_CLIENTS, 2)
    assert all(one.complete for one in responses)
    return [one.seconds for one in responses]


@asynccontextmanager
async def _batches_meanwhile(service: Service) -> AsyncIterator[None]:
    """One batch after another for the duration of the block."""

    async def repeat() -> None:
        while True:
            await _run_batch(service, NDJSON)

    batches = asyncio.create_task(repeat())
    try:
        yield
    finally:
        batches.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await batches
