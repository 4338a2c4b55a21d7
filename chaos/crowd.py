"""Thousands of clients that only hold connections, beside one that wants its answers."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

from benchmarks.process import ROOT
from chaos.cheap import Clients, Reply, cheap_upstream
from chaos.figures import Figure, at_most, exactly, info, percentile
from chaos.service import service_process

_DESCRIPTORS = 1024
_RATE = 40.0
"""Requests a second of the good client: half of them on a new connection each."""
_WARM_UP = 4.0
_QUIET = 5.0
_CROWDED = 20.0
"""Seconds: the crowd comes in eight, and who was dropped comes again after ten."""
_AFTER = 10.0
_MIB = 2**20


async def crowd(directory: Path) -> AsyncIterator[Figure]:
    """10,000 idle, 1,000 half a head, 1,000 streams that nobody reads, and 500 resets a second."""
    users = count(1000)

    def path() -> str:
        return f"/v1/users/{next(users)}/overview"

    async with (
        cheap_upstream() as url,
        service_process(
            directory, {}, "app", _DESCRIPTORS, UPSTREAM_URL=url, LOG_LEVEL="info"
        ) as service,
    ):

        async def good_client(seconds: float) -> list[Reply]:
            async with Clients(service.url) as kept, Clients(service.url, keep=False) as new:
                halves = [each.open_loop(path, _RATE / 2, seconds) for each in (kept, new)]
                return [reply for half in await asyncio.gather(*halves) for reply in half]

        async with Clients(service.url) as clients:  # fill the caches, which are bounded
            await clients.closed_loop(path, 8, _WARM_UP)
        quiet = percentile([one.seconds for one in await good_client(_QUIET)], 0.99)
        before = service.memory()
        peak = 0

        async def watch_memory() -> None:
            nonlocal peak
            while True:
                peak = max(peak, service.memory())
                await asyncio.sleep(0.1)

        watching = asyncio.create_task(watch_memory())
        async with _crowd(service.url) as connections:
            replies = await good_client(_CROWDED)
            sockets = service.sockets()
        await asyncio.sleep(_AFTER)
        watching.cancel()
        await asyncio.wait([watching])
        after = service.memory()
        refused = sum(not one.complete for one in replies)
        p99 = percentile([one.seconds for one in replies], 0.99)
        growth = (after - before) / _MIB
        came = ", ".join(f"{number} {kind}" for kind, number in connections.items())
        yield info("crowd, connections", came)
        yield info("crowd, sockets of the service", str(sockets))
        yield info("crowd, p99 before", f"{quiet * 1000:.1f} ms")
        yield at_most("crowd, p99 of the good client", p99, 2 * quiet + 0.02, "ms")
        yield exactly("crowd, its requests not answered", refused, 0)
        yield at_most("crowd, memory", peak / _MIB, 150, "MiB")
        yield at_most("crowd, memory more than before, 10 s later", growth, 5, "MiB")


@asynccontextmanager
async def _crowd(url: str) -> AsyncIterator[dict[str, int]]:
    """Its connections of each kind, once the block has ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chaos.crowd_clients", url), cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    connections: dict[str, int] = {}
    try:
        yield connections
    finally:
        out, _ = await process.communicate(b"")
        connections.update(json.loads(out))
