"""A minute of everything at once: in the end, nothing is held that was taken."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

from chaos.figures import Figure, at_least, at_most, exactly, told
from chaos.load import closed_loop
from chaos.service import NAMES, Answered, Service, served
from chaos.upstreams import Switch
from tests.service import faults
from tests.service.replies import good, never, resource, saying
from tests.service.upstream import Exchange, Reply, Upstream

_SECONDS = 60.0
_WARM = 20.0
_CLIENTS = 32
_USERS = 400
"""Few enough that flights are shared and the cache is hit, and so bounded by them."""
_GROWTH = 10 * 2**20
_LEAVE = 0.15
"""Of the clients, before they have their answer."""

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


async def _tagged(exchange: Exchange) -> None:
    """Good for half a second, and then good again if it is asked about."""
    if "if-none-match" in exchange.headers:
        answer = saying(b"", "304 Not Modified", etag='"1"', cache_control="max-age=1")
    else:
        body = resource(exchange.target) or b""
        answer = saying(body, etag='"1"', cache_control="max-age=1")
    await answer(exchange)


_FAULTS: tuple[Reply, ...] = (
    never,
    _reset,
    saying(b"", "500 Internal Server Error"),
    saying(b"", "429 Too Many Requests", retry_after=0),
    faults.closes_at_once,
    faults.truncated,
    faults.resets_in_the_body,
    faults.garbage,
    faults.drips,
    faults.two_lengths,
    saying(b"[{]"),
)


class _Weather:
    """Mostly good and quick, often slow, and now and then in a spell when nearly nothing works."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._spell = 0.0
        self._bad = 0.1

    async def __call__(self, exchange: Exchange) -> None:
        chance = self._chance
        now = perf_counter()
        if now > self._spell:
            self._spell = now + chance.uniform(0.5, 3)
            self._bad = chance.choice((0.02, 0.1, 0.1, 0.3, 0.9))
        if chance.random() < self._bad:
            await chance.choice(_FAULTS)(exchange)
            return
        await asyncio.sleep(chance.choice((0, 0.01, 0.01, 0.02, 0.15)))
        await (_tagged if chance.random() < 0.3 else good)(exchange)


async def soak(directory: Path) -> AsyncIterator[Figure]:
    """Random faults, clients that leave, short deadlines; hedges, mirrors, retries and cache."""
    held = directory / "held.json"
    chance = random.Random(7)
    async with AsyncExitStack() as stack:
        replies = [Switch(_Weather(seed)) for seed in range(2 * len(NAMES))]
        upstreams = [await stack.enter_async_context(Upstream(reply)) for reply in replies]
        urls = {
            f"UPSTREAMS__{name}__URLS": f"{first.url},{second.url}"
            for name, first, second in zip(NAMES, upstreams[::2], upstreams[1::2], strict=True)
        }
        service = await stack.enter_async_context(
            served(directory, _EACH, "chaos.watched", CHAOS_HELD=held, FAN_OUT=4, **urls)
        )
        calm = _held(service, held)
        sockets = service.sockets()
        weather = closed_loop(lambda: _some_client(service, chance), _CLIENTS, _SECONDS)
        storm = asyncio.create_task(weather)
        memory = []
        for until in (_WARM, _SECONDS - _WARM):
            await asyncio.sleep(until)
            memory.append(service.memory())
        answers = await storm
        statuses = Counter(one.status for one in answers)
        yield told("soak, answers", ", ".join(f"{n} x {s}" for s, n in statuses.most_common()))
        seen = sum(len(one.seen) for one in upstreams)
        yield told("soak, upstream calls", str(seen))
        unfit = sum(statuses[s] for s in statuses if s not in (200, 404, 502, 503, 504, 499))
        yield exactly("soak, answers that were not foreseen", unfit, 0)
        yield exactly("soak, errors in the log", len(_errors(service)), 0)
        for line in _errors(service)[:3]:
            yield told("soak, error", line[-400:])
        growth = (memory[1] - memory[0]) / 2**20
        yield at_most(
            f"soak, memory grown from {memory[0] / 2**20:.0f} MiB, 20 s to 60 s",
            growth,
            _GROWTH / 2**20,
            "MiB",
        )
        for reply in replies:
            reply.reply = good
        health = await service.health()
        async with asyncio.timeout(10):
            while _busy(health) or any(one.open for one in upstreams):  # idle ones last 4 s
                await asyncio.sleep(0.1)
                health = await service.health()
        permits = sum(one["permits"]["in_use"] for one in health.values())
        yield exactly("soak, permits held", permits, 0)
        queued = sum(one["permits"]["queued"] for one in health.values())
        yield exactly("soak, calls in queues", queued, 0)
        left = sum(len(one.open) for one in upstreams)
        yield exactly("soak, upstream connections held", left, 0)
        now = _held(service, held)
        # Those of the clients are theirs to close.
        more_sockets = service.sockets() - sockets
        yield at_most("soak, sockets more than before", more_sockets, _CLIENTS)
        tasks = Counter(now["tasks"])
        tasks.subtract(calm["tasks"])
        left_over = {name: count for name, count in tasks.items() if count > 0}
        yield exactly("soak, tasks more than before", left_over or 0, 0)
        # An entry of the cache holds no call, so what is there belongs to flights or refreshes.
        for name in ("Call", "Context"):
            count = now["objects"].get(name, 0) - calm["objects"].get(name, 0)
            yield at_most(f"soak, {name} objects more than before", count, 0)
        well = [await service.overview(10**6 + n) for n in range(20)]
        yield at_least("soak, complete afterwards, of 20", sum(one.complete for one in well), 20)


async def _some_client(service: Service, chance: random.Random) -> Answered:
    headers = {}
    if chance.random() < 0.3:
        headers["X_Request_Timeout_Ms"] = str(chance.randint(1, 600))
    if chance.random() < 0.1:
        headers["Cache_Control"] = "no-cache"
    query = chance.choice(("", "", "", "?include=posts", "?require=user", "?include=user,todos"))
    user = 1000 + chance.randrange(_USERS)
    began = perf_counter()
    patience = chance.uniform(0, 0.2) if chance.random() < _LEAVE else 30
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            return await service.overview(user, query, **headers)
    return Answered(began, perf_counter() - began, 499, {}, "")


def _busy(health: dict[str, Any]) -> bool:
    return any(one["permits"]["in_use"] or one["permits"]["queued"] for one in health.values())


def _errors(service: Service) -> list[str]:
    return service.log.read_text().splitlines()


def _held(service: Service, path: Path) -> Any:
    """What the process says that it holds; meanwhile its upstreams have nothing to do."""
    path.unlink(missing_ok=True)
    os.kill(service.pid, signal.SIGUSR1)
    give_up = perf_counter() + 10
    while not path.exists():
        assert perf_counter() < give_up
        time.sleep(0.02)
    return json.loads(path.read_text())
