"""Recovery: a trigger under load, and how soon goodput is back when the trigger is over.

A failure is metastable if it goes on without what has triggered it, sustained by its own retries,
queues or cold caches (Bronson et al., "Metastable Failures in Distributed Systems", HotOS 2021). No
test of a single part shows one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count, cycle
from pathlib import Path
from time import perf_counter
from typing import Self

from chaos.figures import Figure, at_most, info
from chaos.load import users
from chaos.service import Service, service_process
from chaos.upstreams import Workers
from tests.service.replies import good, resource, respond_with
from tests.service.upstream import Exchange, Upstream

_LOADS = ((0.5, 1.0, 1.5), (2.0, 3.0))
"""Of the upstream's capacity, by what is not stored; those of a group run side by side."""
_WORKERS, _LATENCY = 12, 0.05
_SECTIONS = 3
"""Of an answer: their calls share the workers, and it is complete with the last of them."""
_DEADLINE = 2.0
_HOT_USERS = 20
_FIRST_HOT_USER = 10**6
_WARM_UP, _BEFORE, _TRIGGER, _AFTER = 5.0, 3.0, 2.0, 6.5
_WINDOW = 3.0
"""Seconds over which goodput is measured after a trigger."""
_BACK, _BACK_WITHIN = 0.95, 3.0


async def recovery(directory: Path) -> AsyncIterator[Figure]:
    """Each load has a service and an upstream of its own, and all triggers one after another."""
    for group in _LOADS:
        runs = await asyncio.gather(*(_run(directory, load) for load in group))
        for load, results in zip(group, runs, strict=True):
            for trigger, (before, back) in results.items():
                name = f"recovery, {load * 100:.0f} % load, {trigger}"
                yield info(f"{name}, goodput before", f"{before:.0f}/s")
                yield at_most(f"{name}, goodput back after", back, _BACK_WITHIN, "ms")


async def _run(directory: Path, load: float) -> dict[str, tuple[float, float]]:
    """For each trigger: goodput before it, and seconds from its end until that is back."""
    results = {}
    async with _Scene(directory) as scene, scene.load(load):
        await asyncio.sleep(_WARM_UP)
        for name, trigger in {
            "slow": scene.slow,
            "half errors": scene.half_errors,
            "cold cache": scene.cold_cache,
            "restart": scene.restart,
        }.items():
            await asyncio.sleep(_BEFORE)
            began = perf_counter()
            await trigger()
            ended = perf_counter()
            await asyncio.sleep(_AFTER)
            # What had waited for a pause of the machine to end may be more than was asked for.
            before = min(scene.goodput(began - _BEFORE, began), _requests_a_second(load))
            steps = (ended + step / 10 for step in range(round((_AFTER - _WINDOW) * 10)))
            back = (at for at in steps if scene.goodput(at, at + _WINDOW) >= _BACK * before)
            results[name] = before, next(back, float("inf")) - ended
    return results


def _requests_a_second(load: float) -> float:
    """Two of three are about users that nobody has asked for: those are the load."""
    return 1.5 * load * _WORKERS / _LATENCY / _SECTIONS


class _Scene:
    """A service and its upstream, whose answers about hot users may be stored."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._workers = Workers(_WORKERS, _LATENCY, self._reply)
        self._fails = cycle([False])
        self._hot = count(_FIRST_HOT_USER, _HOT_USERS)
        self._hot_users = cycle([0])
        self._good: list[float] = []
        """When each good answer came."""
        self._service: Service | None = None
        self._process = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        workers = await self._stack.enter_async_context(self._workers)
        self._upstream = await self._stack.enter_async_context(Upstream(workers))
        await self.cold_cache()
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.aclose()
        await self._stack.aclose()

    async def _start(self) -> None:
        settings = {"UPSTREAM_URL": self._upstream.url, "REQUEST_TIMEOUT": _DEADLINE}
        process = service_process(self._directory, {}, "app", **settings)
        self._service = await self._process.enter_async_context(process)

    async def _reply(self, exchange: Exchange) -> None:
        if next(self._fails):
            await respond_with(b"", "500 Internal Server Error")(exchange)
        elif int(exchange.target.replace("=", "/").rpartition("/")[2]) < _FIRST_HOT_USER:
            await good(exchange)
        else:
            body = resource(exchange.target) or b""
            await respond_with(body, cache_control="max-age=600")(exchange)

    def goodput(self, start: float, end: float) -> float:
        return sum(start <= at < end for at in self._good) / (end - start)

    @asynccontextmanager
    async def load(self, load: float) -> AsyncIterator[None]:
        """Whether or not earlier requests have been answered."""
        tasks: set[asyncio.Task[None]] = set()

        async def send() -> None:
            began, rate = perf_counter(), _requests_a_second(load)
            for number in count():
                await asyncio.sleep(max(began + number / rate - perf_counter(), 0))
                task = asyncio.create_task(self._request(hot=number % 3 == 0))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        sending = asyncio.create_task(send())
        try:
            yield
        finally:
            sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            await asyncio.gather(*tasks)

    async def _request(self, hot: bool) -> None:
        if self._service is not None:
            user = next(self._hot_users if hot else users)
            response = await self._service.overview(user)
            if response.complete and response.seconds <= _DEADLINE:
                self._good.append(perf_counter())

    # The triggers: each returns when it is over.

    async def slow(self) -> None:
        self._workers.seconds = 10 * _LATENCY
        await asyncio.sleep(_TRIGGER)
        self._workers.seconds = _LATENCY

    async def half_errors(self) -> None:
        self._fails = cycle([True, False])
        await asyncio.sleep(_TRIGGER)
        self._fails = cycle([False])

    async def cold_cache(self) -> None:
        """Others are hot now: as good as emptied."""
        first = next(self._hot)
        self._hot_users = cycle(range(first, first + _HOT_USERS))

    async def restart(self) -> None:
        self._service = None
        await self._process.aclose()
        await self._start()
