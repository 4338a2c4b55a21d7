"""More requests than this process itself can answer, with upstreams that answer at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

from chaos.cheap import Clients, Reply, cheap_upstream
from chaos.figures import Figure, at_least, at_most, info, percentile
from chaos.service import service_process

_DEADLINE = 2.0
_SECONDS = 20.0
_OVERLOADS = (1.5, 3.0, 5.0)
_USERS = 3
"""Of each request. To refuse it costs a fortieth of its answer: with one user it is a fifteenth,
and what is over five times the capacity takes a fourth of it to refuse."""
_CLIENTS = 16
_AFTER = 2.0
"""Seconds after which it is as it was."""


async def own_overload(directory: Path) -> AsyncIterator[Figure]:
    users = count(1000)

    def path() -> str:
        """No user comes twice: nothing is shared, and nothing comes from the cache."""
        return "/v1/overviews?" + "&".join(f"user_id={next(users)}" for _ in range(_USERS))

    async with (
        cheap_upstream() as url,
        service_process(
            directory, {}, UPSTREAM_URL=url, REQUEST_TIMEOUT=_DEADLINE, LOG_LEVEL="info"
        ) as service,
        Clients(service.url) as clients,
    ):

        async def capacity_now(seconds: float) -> float:
            return _goodput(await clients.closed_loop(path, _CLIENTS, seconds), seconds)

        await capacity_now(2)
        for times in _OVERLOADS:
            capacity = await capacity_now(4)
            replies = await clients.open_loop(path, capacity * times, _SECONDS)
            name = f"own_overload, {times:g} times {capacity:.0f}/s"
            shed = [one.seconds for one in replies if one.status == 503]
            statuses = Counter(
                f"{one.status}{'' if one.complete or one.status != 200 else ' partial'}"
                for one in replies
            )
            ok = [one.seconds for one in replies if one.complete]
            goodput = _goodput(replies, _SECONDS)
            yield at_least(f"{name}, goodput of capacity", goodput / capacity, 0.85, "%")
            yield at_most(f"{name}, p99 of 200", percentile(ok, 0.99), _DEADLINE + 0.05, "ms")
            yield at_most(f"{name}, p99 of 503", percentile(shed, 0.99), 0.1, "ms")
            yield info(f"{name}, longest 503", f"{max(shed, default=0) * 1000:.0f} ms")
            neither = 1 - (statuses["200"] + statuses["503"]) / len(replies)
            yield at_most(f"{name}, neither complete nor refused", neither, 0.001, "%")
            yield info(f"{name}, statuses", str(dict(statuses)))
            await asyncio.sleep(_AFTER)
            yield at_least(f"{name}, 2 s after", await capacity_now(4) / capacity, 0.95, "%")


def _goodput(replies: list[Reply], seconds: float) -> float:
    """Complete answers a second that came by their deadline, and within these seconds."""
    end = replies[0].began + seconds
    return (
        sum(
            one.complete and one.seconds <= _DEADLINE and one.began + one.seconds <= end
            for one in replies
        )
        / seconds
    )
