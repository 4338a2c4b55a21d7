"""One upstream hangs: those who do not need it must not feel it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from time import perf_counter

from chaos.figures import Figure, at_least, told
from chaos.load import closed_loop, users
from chaos.service import Answered, served
from chaos.upstreams import Switch, three, urls
from tests.service.replies import after, never
from tests.service.upstream import Reply

_ROUNDS = 6
_SECONDS = 2.0
_CLIENTS = 8
_STREAM = 50.0
"""Requests a second that include the one that hangs, all through both kinds of round."""


async def isolation(directory: Path) -> AsyncIterator[Figure]:
    """Rounds in turn, so that a busy neighbour of this machine is shared by both kinds."""
    posts = Switch(after(0.05))
    replies: dict[str, Reply] = {"USERS": after(0.05), "POSTS": posts, "TODOS": after(0.05)}
    rates: dict[str, list[float]] = {"well": [], "hanging": []}
    async with (
        three(replies) as upstreams,
        served(directory, {}, **urls(upstreams)) as service,
    ):

        async def ask() -> Answered:
            return await service.overview(next(users), "?include=user,todos")

        async def round_() -> float:
            answers = await closed_loop(ask, _CLIENTS, _SECONDS)
            return sum(one.complete for one in answers) / _SECONDS

        asking: set[asyncio.Task[Answered]] = set()

        async def stream() -> None:
            began = perf_counter()
            for number in range(10**9):
                await asyncio.sleep(max(began + number / _STREAM - perf_counter(), 0))
                one = asyncio.create_task(service.overview(next(users)))
                asking.add(one)
                one.add_done_callback(asking.discard)

        streaming = asyncio.create_task(stream())
        await closed_loop(ask, _CLIENTS, 1)
        for _ in range(_ROUNDS):
            rates["well"].append(await round_())
            async with posts.doing(never):
                rates["hanging"].append(await round_())
        streaming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await streaming
        await asyncio.gather(*asking)
    well, hanging = median(rates["well"]), median(rates["hanging"])
    yield told("isolation, all well", f"{well:.0f}/s")
    yield at_least("isolation, kept while one hangs", hanging / well, 0.95, "%")
