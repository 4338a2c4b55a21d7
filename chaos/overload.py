"""Three times the load that the upstream can carry: what is carried stays as much as it was."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from chaos.figures import Figure, at_least, at_most, percentile, told
from chaos.load import open_loop, users
from chaos.service import Answered, Service, served
from chaos.upstreams import Workers
from tests.service.upstream import Upstream

_DEADLINE = 2.0
_JUST_BELOW = 0.95
"""Of the capacity: where goodput is at its peak."""
_OVERLOAD = 3.0
_SECTIONS = 3
_LONGEST_QUEUE = 1000
_NOISE = 0.05


@dataclass(slots=True)
class _Seen:
    """What `/readyz` said at most, of all upstreams together."""

    queued: int = 0
    pause: float = 0.0
    """The longest in which this process, so probably the machine, did not come to anything."""
    limits: list[int] = field(default_factory=list)


async def overload(directory: Path) -> AsyncIterator[Figure]:
    """The bounds hold for eight workers; for a single one, three sections are a crowd already."""
    async for figure in _overloaded(directory, 8, 0.05, 20.0):
        yield figure
    async for figure in _overloaded(directory, 1, 0.02, 10.0):
        yield told(figure.name, figure.value)


async def _overloaded(
    directory: Path, workers: int, seconds: float, duration: float
) -> AsyncIterator[Figure]:
    async with (
        Workers(workers, seconds) as labour,
        Upstream(labour) as upstream,
        served(directory, {}, UPSTREAM_URL=upstream.url, REQUEST_TIMEOUT=_DEADLINE) as service,
    ):

        async def ask() -> Answered:
            return await service.overview(next(users))

        capacity = labour.capacity / _SECTIONS
        await open_loop(ask, capacity / 2, 1)
        calm = await open_loop(ask, capacity * _JUST_BELOW, 6)
        peak = sum(one.complete and one.seconds <= _DEADLINE for one in calm) / 6
        called = len(upstream.seen)
        async with _watching(service) as seen:
            answers = await open_loop(ask, capacity * _OVERLOAD, duration)
        called = len(upstream.seen) - called
        name = f"overload, {workers} x {seconds * 1000:g} ms"
        good = [one for one in answers if one.complete and one.seconds <= _DEADLINE]
        taken = [one.seconds for one in answers if one.status == 200]
        refused = [one for one in answers if one.status == 503]
        end = answers[0].began + duration
        carried = sum(one.began + one.seconds <= end for one in good) / duration
        yield told(f"{name}, peak", f"{peak:.1f}/s of {capacity:.1f}/s")
        yield at_least(f"{name}, goodput", carried / peak, 0.85, "%")
        yield at_most(f"{name}, p99 of 200", percentile(taken, 0.99), _DEADLINE + 0.05, "ms")
        yield told(f"{name}, median of 200", f"{median(taken) * 1000:.0f} ms")
        yield at_most(f"{name}, queued", seen.queued, _LONGEST_QUEUE)
        early = percentile([one.seconds for one in refused], 0.5)
        yield at_most(f"{name}, median of 503", early, 0.1, "ms")
        late = percentile([one.seconds for one in refused], 0.99)
        yield at_most(f"{name}, p99 of 503", late, _DEADLINE + _NOISE, "ms")
        silent = sum("Retry-After" not in one.headers for one in refused)
        yield at_most(f"{name}, 503 without Retry-After", silent, 0)
        yield told(f"{name}, longest pause of the machine", f"{seen.pause * 1000:.0f} ms")
        statuses = Counter(str(one.status) for one in answers)
        statuses["partial 200"] = sum(one.status == 200 and not one.complete for one in answers)
        yield told(f"{name}, answers", ", ".join(f"{n} x {s}" for s, n in statuses.items()))
        yield told(
            f"{name}, upstream",
            f"{called} calls for {len(good) * _SECTIONS} wanted, "
            f"limit {min(seen.limits)} to {max(seen.limits)}, {labour.most_queued} queued there",
        )


@asynccontextmanager
async def _watching(service: Service) -> AsyncIterator[_Seen]:
    seen = _Seen()

    async def watch() -> None:
        while True:
            permits = [one["permits"] for one in (await service.health()).values()]
            seen.queued = max(seen.queued, sum(one["queued"] for one in permits))
            seen.limits += [one["limit"] for one in permits]
            asleep = perf_counter()
            await asyncio.sleep(0.1)
            seen.pause = max(seen.pause, perf_counter() - asleep - 0.1)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
