"""An upstream's name gets another address, under steady load: the service follows."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_most, exactly, info
from chaos.load import open_loop, users
from chaos.service import Response, service_process
from tests.service.replies import good
from tests.service.upstream import Upstream

_NAME = "upstream.test"
_RATE = 50.0
_BEFORE = 3.0
_SECONDS = 16.0
_MAX_AGE = 10.0
"""Seconds, of a connection to an upstream."""
_NOISE = 0.5


async def dns_change(directory: Path) -> AsyncIterator[Figure]:
    """The server at the old address goes on, and would answer for ever."""
    names = directory / "names"
    async with (
        Upstream(good) as old,
        Upstream(good, address=("127.0.0.2", old.port)) as new,
    ):
        names.write_text(f"{_NAME} 127.0.0.1\n")
        url = f"http://{_NAME}:{old.port}"
        async with service_process(
            directory, {}, "chaos.named", UPSTREAM_URL=url, CHAOS_NAMES=names
        ) as service:

            async def request() -> Response:
                return await service.overview(next(users))

            load = asyncio.create_task(open_loop(request, _RATE, _SECONDS))
            await asyncio.sleep(_BEFORE)
            changed = names.with_suffix(".new")
            changed.write_text(f"{_NAME} 127.0.0.2\n")
            changed.replace(names)  # atomic: nobody reads half a file
            changed_at = perf_counter()
            responses = await load
    first = min(one.began for one in new.exchanges) - changed_at
    last = max(one.began for one in old.exchanges) - changed_at
    incomplete = sum(not one.complete for one in responses)
    yield info("dns_change, first call to the new address after", f"{first:.1f} s")
    yield at_most("dns_change, last call to the old address after", last, _MAX_AGE + _NOISE, "s")
    yield exactly("dns_change, answers that are not complete", incomplete, 0)
