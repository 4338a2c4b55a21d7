"""Load on the service: an open loop at a fixed rate, a closed loop of clients, and bursts."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from time import perf_counter

from chaos.service import Response

users = itertools.count(1000)  # past the one user that the tests' upstream answers with 404
"""No user comes twice: no two calls coalesce, and nothing is served from the cache."""

Request = Callable[[], Awaitable[Response]]


async def open_loop(request: Request, rate: float, seconds: float) -> list[Response]:
    """`rate` requests a second, evenly, whether or not earlier ones have been answered."""
    began = perf_counter()
    tasks: list[asyncio.Task[Response]] = []
    for number in range(round(rate * seconds)):
        # Late requests are sent at once: a pause of the machine must not lower the load.
        await asyncio.sleep(max(began + number / rate - perf_counter(), 0))
        tasks.append(asyncio.create_task(_one(request)))
    return list(await asyncio.gather(*tasks))


async def closed_loop(request: Request, clients: int, seconds: float) -> list[Response]:
    """Each client sends its next request as soon as it has its response."""
    end = perf_counter() + seconds
    responses: list[Response] = []

    async def client() -> None:
        while perf_counter() < end:
            responses.append(await request())

    await asyncio.gather(*(client() for _ in range(clients)))
    return responses


async def burst(request: Request, times: int) -> list[Response]:
    """So many requests at once."""
    return list(await asyncio.gather(*(request() for _ in range(times))))


async def _one(request: Request) -> Response:
    return await request()
