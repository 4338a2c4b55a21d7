"""Clients that request much and do not read: bounded memory, and no effect on other requests."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median

from chaos.figures import Figure, at_most, exactly
from chaos.leaks import holds_permits
from chaos.load import closed_loop, users
from chaos.service import NAMES, service_process
from chaos.upstreams import three_upstreams, url_settings
from tests.service.replies import delayed, respond_with
from tests.service.stream import NDJSON, Stream
from tests.service.upstream import Exchange

_READERS = 5
_BATCH = 100
_FAN_OUT = 10
_BODY = b"x" * 500_000
"""Of each user's post."""
_SETTINGS = {"REQUEST_TIMEOUT": 30, "REQUEST_TIMEOUT_MAX": 30, "FAN_OUT": _FAN_OUT}


def _overviews(user: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user + n}" for n in range(_BATCH))


async def slow_reader(directory: Path) -> AsyncIterator[Figure]:
    """Five clients request a batch each, read nothing for two seconds, and then all of it."""
    small = delayed(0.02)

    async def reply(exchange: Exchange) -> None:
        path, _, user = exchange.target.partition("?userId=")
        if path == "/posts":
            post = b'[{"userId":%d,"id":1,"title":"Long","body":"%b"}]' % (int(user), _BODY)
            await respond_with(post)(exchange)
        else:
            await small(exchange)

    async with (
        three_upstreams(dict.fromkeys(NAMES, reply)) as upstreams,
        service_process(directory, {}, "app", **_SETTINGS, **url_settings(upstreams)) as service,
        AsyncExitStack() as readers,
    ):

        async def p50_of_others() -> float:
            """Of other clients' requests for small sections, in seconds."""
            request = partial(service.overview, query="?include=user,todos")
            responses = await closed_loop(lambda: request(next(users)), 2, 2)
            return median(one.seconds for one in responses)

        before, alone = service.memory(), await p50_of_others()
        paths = [_overviews((1 + place) * _BATCH) for place in range(_READERS)]
        streams = [
            await readers.enter_async_context(Stream(service.url, path, NDJSON, window=4096))
            for path in paths
        ]
        beside = await p50_of_others()
        growth = (service.memory() - before) / 2**20
        health = await service.health()
        total = _READERS * _BATCH * len(_BODY) / 2**20
        name = f"slow_reader, {_READERS} times {_BATCH} users"
        # For each attempt in flight, the data that it gives, and as much on its way out.
        bound = _READERS * 2 * _FAN_OUT * len(_BODY) / 2**20
        yield at_most(f"{name}, memory of {total:.0f} MiB", growth, bound, "MiB")
        yield exactly(f"{name}, permits or queues held", holds_permits(health), False)
        yield at_most(f"{name}, p50 of others, of that before", beside / alone, 1.2, "%")
        complete = 0
        for stream in streams:
            async for chunk in stream:
                complete += sum(item["overview"]["complete"] for item in chunk.lines)
        yield exactly(f"{name}, complete in the end", complete, _READERS * _BATCH)
