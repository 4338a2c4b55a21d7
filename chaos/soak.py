"""Soak: a minute of random faults, disconnects and short deadlines; in the end nothing leaked."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_least, at_most, exactly, info
from chaos.leaks import INSPECTABLE, dump, holds_permits, increase
from chaos.load import closed_loop
from chaos.service import NAMES, Response, Service, service_process
from chaos.upstreams import Switch
from tests.service import faults
from tests.service.replies import good, never, resource, respond_with
from tests.service.upstream import Exchange, Reply, Upstream

_SECONDS = 60.0
_WARM_UP = 20.0
_CLIENTS = 32
_USERS = 400
"""Few enough that calls coalesce, the cache is hit, and the cache stays within bounds."""
_MAX_GROWTH = 10 * 2**20
_DISCONNECTS = 0.15
"""The share of clients that disconnect before they have their response."""

_EACH = {
    "HEDGE": "auto",
    "TTL": 0.3,
    "STALE_WHILE_REVALIDATE": 0.3,
    "STALE_IF_ERROR": 1,
    "CONCURRENCY": 6,
    "ATTEMPT_TIMEOUT": 0.4,
}


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _with_etag(exchange: Exchange) -> None:
    """Fresh for a second, and a 304 for every revalidation."""
    if "if-none-match" in exchange.headers:
        reply = respond_with(b"", "304 Not Modified", etag='"1"', cache_control="max-age=1")
    else:
        body = resource(exchange.target) or b""
        reply = respond_with(body, etag='"1"', cache_control="max-age=1")
    await reply(exchange)


_FAULTS: tuple[Reply, ...] = (
    never,
    _reset,
    respond_with(b"", "500 Internal Server Error"),
    respond_with(b"", "429 Too Many Requests", retry_after=0),
    faults.closed_at_once,
    faults.truncated,
    faults.reset_in_body,
    faults.garbage,
    faults.dripping_body,
    faults.two_content_lengths,
    respond_with(b"[{]"),
)


class _FlakyReply:
    """Mostly good, often slow, with a share of faults that changes every few seconds."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._changes_at = 0.0
        self._fault_share = 0.1

    async def __call__(self, exchange: Exchange) -> None:
        chance = self._chance
        now = perf_counter()
        if now > self._changes_at:
            self._changes_at = now + chance.uniform(0.5, 3)
            self._fault_share = chance.choice((0.02, 0.1, 0.1, 0.3, 0.9))
        if chance.random() < self._fault_share:
            await chance.choice(_FAULTS)(exchange)
            return
        await asyncio.sleep(chance.choice((0, 0.01, 0.01, 0.02, 0.15)))
        await (_with_etag if chance.random() < 0.3 else good)(exchange)


async def soak(directory: Path) -> AsyncIterator[Figure]:
    """Random faults, disconnects, short deadlines; with hedges, mirrors, retries and cache."""
    dump_path = directory / "dump.json"
    chance = random.Random(7)
    async with AsyncExitStack() as stack:
        switches = [Switch(_FlakyReply(seed)) for seed in range(2 * len(NAMES))]
        upstreams = [await stack.enter_async_context(Upstream(switch)) for switch in switches]
        urls = {
            f"UPSTREAMS__{name}__URLS": f"{first.url},{second.url}"
            for name, first, second in zip(NAMES, upstreams[::2], upstreams[1::2], strict=True)
        }
        service = await stack.enter_async_context(
            service_process(directory, _EACH, INSPECTABLE, CHAOS_DUMP=dump_path, FAN_OUT=4, **urls)
        )
        before = dump(service, dump_path)
        sockets = service.sockets()
        load = asyncio.create_task(
            closed_loop(lambda: _random_request(service, chance), _CLIENTS, _SECONDS)
        )
        memory = []
        for seconds in (_WARM_UP, _SECONDS - _WARM_UP):
            await asyncio.sleep(seconds)
            memory.append(service.memory())
        responses = await load
        statuses = Counter(one.status for one in responses)
        yield info("soak, answers", ", ".join(f"{n} x {s}" for s, n in statuses.most_common()))
        calls = sum(len(one.exchanges) for one in upstreams)
        yield info("soak, upstream calls", str(calls))
        unexpected = sum(statuses[s] for s in statuses if s not in (200, 404, 502, 503, 504, 499))
        yield exactly("soak, unexpected answers", unexpected, 0)
        errors = service.logged_errors()
        yield exactly("soak, errors in the log", len(errors), 0)
        for line in errors[:3]:
            yield info("soak, error", line[-400:])
        growth = (memory[1] - memory[0]) / 2**20
        yield at_most(
            f"soak, memory grown from {memory[0] / 2**20:.0f} MiB, 20 s to 60 s",
            growth,
            _MAX_GROWTH / 2**20,
            "MiB",
        )
        for switch in switches:
            switch.reply = good
        health = await service.health()
        async with asyncio.timeout(10):
            # Idle connections are closed after 4 s.
            while holds_permits(health) or any(one.open for one in upstreams):
                await asyncio.sleep(0.1)
                health = await service.health()
        permits = sum(one["permits"]["in_use"] for one in health.values())
        yield exactly("soak, permits held", permits, 0)
        queued = sum(one["permits"]["queued"] for one in health.values())
        yield exactly("soak, calls in queues", queued, 0)
        connections = sum(len(one.open) for one in upstreams)
        yield exactly("soak, upstream connections held", connections, 0)
        after = dump(service, dump_path)
        # The connections of the clients stay open.
        more_sockets = service.sockets() - sockets
        yield at_most("soak, sockets more than before", more_sockets, _CLIENTS)
        more_tasks = increase(before["tasks"], after["tasks"])
        yield exactly("soak, tasks more than before", more_tasks or 0, 0)
        # An entry of the cache holds no call: these belong to flights or refreshes.
        for name in ("Call", "Context"):
            count = after["objects"].get(name, 0) - before["objects"].get(name, 0)
            yield at_most(f"soak, {name} objects more than before", count, 0)
        final = [await service.overview(10**6 + n) for n in range(20)]
        yield at_least("soak, complete afterwards, of 20", sum(one.complete for one in final), 20)


async def _random_request(service: Service, chance: random.Random) -> Response:
    headers = {}
    if chance.random() < 0.3:
        headers["X_Request_Timeout_Ms"] = str(chance.randint(1, 600))
    if chance.random() < 0.1:
        headers["Cache_Control"] = "no-cache"
    query = chance.choice(("", "", "", "?include=posts", "?require=user", "?include=user,todos"))
    user = 1000 + chance.randrange(_USERS)
    began = perf_counter()
    disconnect_after = chance.uniform(0, 0.2) if chance.random() < _DISCONNECTS else 30
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(disconnect_after):
            return await service.overview(user, query, **headers)
    return Response(began, perf_counter() - began, 499, {}, "")
