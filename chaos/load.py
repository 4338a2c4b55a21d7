"""Load on the service: clients that wait for each other's answers, and clients that do not."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from time import perf_counter

from chaos.service import Answered

users = itertools.count(1000)  # beyond the one user that the tests' upstream does not know
"""No user comes twice: nobody can share a flight, or be served from what another one asked."""

Ask = Callable[[], Awaitable[Answered]]


async def open_loop(ask: Ask, rate: float, seconds: float) -> list[Answered]:
    """`rate` requests a second, evenly, whether or not those before have been answered."""
    began = perf_counter()
    asking: list[asyncio.Task[Answered]] = []
    for number in range(round(rate * seconds)):
        # Late ones go out at once: a pause of the machine must not make the load any lighter.
        await asyncio.sleep(max(began + number / rate - perf_counter(), 0))
        asking.append(asyncio.create_task(_one(ask)))
    return list(await asyncio.gather(*asking))


async def closed_loop(ask: Ask, clients: int, seconds: float) -> list[Answered]:
    """Each client asks again as soon as it has its answer."""
    end = perf_counter() + seconds
    answers: list[Answered] = []

    async def client() -> None:
        while perf_counter() < end:
            answers.append(await ask())

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def at_once(ask: Ask, times: int) -> list[Answered]:
    return list(await asyncio.gather(*(ask() for _ in range(times))))


async def _one(ask: Ask) -> Answered:
    return await ask()
