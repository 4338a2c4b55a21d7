"""One upstream hangs: requests that do not need it keep their throughput."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from time import perf_counter

from chaos.figures import Figure, at_least, info
from chaos.load import closed_loop, users
from chaos.service import Response, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import delayed, never
from tests.service.upstream import Reply

_ROUNDS = 6
_SECONDS = 2.0
_CLIENTS = 8
_BACKGROUND_RATE = 50.0
"""Requests a second that need the upstream that hangs, in both kinds of round."""


async def isolation(directory: Path) -> AsyncIterator[Figure]:
    """The rounds alternate, so that a busy neighbour of this machine affects both kinds."""
    posts = Switch(delayed(0.05))
    replies: dict[str, Reply] = {"USERS": delayed(0.05), "POSTS": posts, "TODOS": delayed(0.05)}
    rates: dict[str, list[float]] = {"healthy": [], "hanging": []}
    async with (
        three_upstreams(replies) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):

        async def request() -> Response:
            return await service.overview(next(users), "?include=user,todos")

        async def measure_rate() -> float:
            responses = await closed_loop(request, _CLIENTS, _SECONDS)
            return sum(one.complete for one in responses) / _SECONDS

        in_flight: set[asyncio.Task[Response]] = set()

        async def send_background_load() -> None:
            began = perf_counter()
            for number in range(10**9):
                await asyncio.sleep(max(began + number / _BACKGROUND_RATE - perf_counter(), 0))
                one = asyncio.create_task(service.overview(next(users)))
                in_flight.add(one)
                one.add_done_callback(in_flight.discard)

        background_load = asyncio.create_task(send_background_load())
        await closed_loop(request, _CLIENTS, 1)
        for _ in range(_ROUNDS):
            rates["healthy"].append(await measure_rate())
            async with posts.switched_to(never):
                rates["hanging"].append(await measure_rate())
        background_load.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background_load
        await asyncio.gather(*in_flight)
    healthy, hanging = median(rates["healthy"]), median(rates["hanging"])
    yield info("isolation, all healthy", f"{healthy:.0f}/s")
    yield at_least("isolation, kept while one hangs", hanging / healthy, 0.95, "%")
