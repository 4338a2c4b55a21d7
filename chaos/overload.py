"""Overload: three times the load that the upstream can carry, and the goodput that remains."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from chaos.figures import Figure, at_least, at_most, info, percentile
from chaos.load import open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import Workers
from tests.service.upstream import Upstream

_DEADLINE = 2.0
_PEAK_LOAD = 0.95
"""Of the capacity: where goodput is at its peak."""
_OVERLOAD = 3.0
_SECTIONS = 3
_MAX_QUEUED = 1000
_NOISE = 0.05


@dataclass(slots=True)
class _Health:
    """The extremes of `/readyz` over a load, all upstreams together."""

    queued: int = 0
    pause: float = 0.0
    """The longest pause of this process in seconds, which is probably one of the machine."""
    limits: list[int] = field(default_factory=list)


async def overload(directory: Path) -> AsyncIterator[Figure]:
    """With eight workers bounds hold; a single one is overloaded by the sections of one request."""
    async for figure in _overload(directory, 8, 0.05, 20.0):
        yield figure
    async for figure in _overload(directory, 1, 0.02, 10.0):
        yield info(figure.name, figure.value)


async def _overload(
    directory: Path, count: int, seconds: float, duration: float
) -> AsyncIterator[Figure]:
    async with (
        Workers(count, seconds) as workers,
        Upstream(workers) as upstream,
        service_process(
            directory, {}, UPSTREAM_URL=upstream.url, REQUEST_TIMEOUT=_DEADLINE
        ) as service,
    ):

        async def request() -> Response:
            return await service.overview(next(users))

        capacity = workers.capacity / _SECTIONS
        await open_loop(request, capacity / 2, 1)
        at_peak = await open_loop(request, capacity * _PEAK_LOAD, 6)
        peak = sum(one.complete and one.seconds <= _DEADLINE for one in at_peak) / 6
        calls_before = len(upstream.exchanges)
        async with _polling_health(service) as health:
            responses = await open_loop(request, capacity * _OVERLOAD, duration)
        calls = len(upstream.exchanges) - calls_before
        name = f"overload, {count} x {seconds * 1000:g} ms"
        good = [one for one in responses if one.complete and one.seconds <= _DEADLINE]
        ok = [one.seconds for one in responses if one.status == 200]
        shed = [one for one in responses if one.status == 503]
        end = responses[0].began + duration
        goodput = sum(one.began + one.seconds <= end for one in good) / duration
        yield info(f"{name}, peak", f"{peak:.1f}/s of {capacity:.1f}/s")
        yield at_least(f"{name}, goodput", goodput / peak, 0.85, "%")
        yield at_most(f"{name}, p99 of 200", percentile(ok, 0.99), _DEADLINE + 0.05, "ms")
        yield info(f"{name}, median of 200", f"{median(ok) * 1000:.0f} ms")
        yield at_most(f"{name}, queued", health.queued, _MAX_QUEUED)
        shed_median = percentile([one.seconds for one in shed], 0.5)
        yield at_most(f"{name}, median of 503", shed_median, 0.1, "ms")
        shed_p99 = percentile([one.seconds for one in shed], 0.99)
        yield at_most(f"{name}, p99 of 503", shed_p99, _DEADLINE + _NOISE, "ms")
        without_retry_after = sum("Retry-After" not in one.headers for one in shed)
        yield at_most(f"{name}, 503 without Retry-After", without_retry_after, 0)
        yield info(f"{name}, longest pause of the machine", f"{health.pause * 1000:.0f} ms")
        statuses = Counter(str(one.status) for one in responses)
        statuses["partial 200"] = sum(one.status == 200 and not one.complete for one in responses)
        yield info(f"{name}, answers", ", ".join(f"{n} x {s}" for s, n in statuses.items()))
        yield info(
            f"{name}, upstream",
            f"{calls} calls for {len(good) * _SECTIONS} wanted, "
            f"limit {min(health.limits)} to {max(health.limits)}, "
            f"{workers.max_queued} queued there",
        )


@asynccontextmanager
async def _polling_health(service: Service) -> AsyncIterator[_Health]:
    health = _Health()

    async def poll() -> None:
        while True:
            permits = [one["permits"] for one in (await service.health()).values()]
            health.queued = max(health.queued, sum(one["queued"] for one in permits))
            health.limits += [one["limit"] for one in permits]
            began = perf_counter()
            await asyncio.sleep(0.1)
            health.pause = max(health.pause, perf_counter() - began - 0.1)

    polling = asyncio.create_task(poll())
    try:
        yield health
    finally:
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling
