"""Batches of large answers: bounded memory, and little effect on other requests."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_least, at_most, exactly, info, percentile
from chaos.load import users
from chaos.service import NAMES, Response, Service, service_process
from chaos.upstreams import three_upstreams, url_settings
from tests.service.replies import delayed, respond_with
from tests.service.upstream import Exchange

_BATCHES = 4
_USERS = 100
_POSTS = 4_000
"""Of each user: about a megabyte, and more work than one long text."""
_ANSWER_MAX = 64.0
"""MiB."""
_MAX_MEMORY = 600.0
"""MiB."""
_MAX_P95 = 0.4
_SETTINGS: dict[str, object] = {
    "REQUEST_TIMEOUT": 30,
    "REQUEST_TIMEOUT_MAX": 30,
    "UPSTREAMS__POSTS__ATTEMPT_TIMEOUT": 5,
}


def _posts() -> bytes:
    post = {"userId": 1, "title": "Long", "body": "x" * 190}
    return json.dumps([{**post, "id": n} for n in range(1, _POSTS + 1)]).encode()


async def large_batches(directory: Path) -> AsyncIterator[Figure]:
    """Four clients request a hundred users of a megabyte each, while another requests one user."""
    large, small = respond_with(_posts()), delayed(0.02)

    async def reply(exchange: Exchange) -> None:
        await (large if exchange.target.startswith("/posts") else small)(exchange)

    async with (
        three_upstreams(dict.fromkeys(NAMES, reply)) as upstreams,
        service_process(directory, {}, "app", **_SETTINGS, **url_settings(upstreams)) as service,
    ):
        await service.overview(next(users))
        async with _highest_memory(service) as highest:
            batches = asyncio.gather(*(_batch(service) for _ in range(_BATCHES)))
            others: list[float] = []
            began = perf_counter()
            while not batches.done():
                response = await service.overview(next(users), "?include=user,todos")
                assert response.complete, response
                others.append(response.seconds)
            responses = await batches
        name = f"large_batches, {_BATCHES} times {_USERS} users"
        yield info(f"{name}, time", f"{perf_counter() - began:.1f} s")
        sizes = [len(response.text) / 2**20 for response in responses]
        yield at_most(f"{name}, largest answer", max(sizes), _ANSWER_MAX, "MiB")
        items = [_items(response) for response in responses]
        yield at_least(f"{name}, items ok, fewest", min(one["ok"] for one in items), 40)
        types = sorted(set().union(*items))
        yield exactly(f"{name}, items are", types, ["/problems/overloaded", "ok"])
        yield at_most(f"{name}, memory", max(highest) / 2**20, _MAX_MEMORY, "MiB")
        yield at_most(f"{name}, p95 of others", percentile(others, 0.95), _MAX_P95, "ms")
        yield info(f"{name}, p50 of others", f"{percentile(others, 0.5) * 1000:.1f} ms")
        yield info(f"{name}, memory afterwards", f"{service.memory() / 2**20:.0f} MiB")


async def _batch(service: Service) -> Response:
    query = "&".join(f"user_id={next(users)}" for _ in range(_USERS))
    return await service.get(f"/v1/overviews?{query}")


def _items(response: Response) -> Counter[str]:
    """How many items are ok, and how many failed, by the type of their problem."""
    return Counter(item.get("error", {}).get("type", "ok") for item in response.json["items"])


@asynccontextmanager
async def _highest_memory(service: Service) -> AsyncIterator[list[int]]:
    """The resident bytes of the service, again and again for the duration of the block."""
    seen = [service.memory()]

    async def watch() -> None:
        while True:
            seen.append(service.memory())
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
