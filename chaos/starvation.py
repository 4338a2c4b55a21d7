"""What is over is over: stored data are fresh again, and a burst finds all permits again.

Something that recovers only through what it prevents never does.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import cycle
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_least, at_most, info
from chaos.load import burst, open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import delayed, respond_with
from tests.service.upstream import Exchange

_ERROR = respond_with(b"", "500 Internal Server Error")
_MANY_KEYS = 50
_OUTAGE = 2.0
_NEW_WITHIN = 2.0

_CALM, _SLOW = delayed(0.02), delayed(0.7)
_SPELL = 4.0
_QUIET = 30.0
_CALM_CALLS = 40
_BURST = 70
"""Six more than there are permits."""


class _Stored:
    """Users and posts of a version, stored for a second and served stale for a minute."""

    def __init__(self) -> None:
        self.version = "first"

    async def __call__(self, exchange: Exchange) -> None:
        user: dict[str, object] = {"id": int(exchange.target[-4:]), "name": self.version}
        post = {"userId": user["id"], "id": 1, "title": self.version, "body": ""}
        data = [post] if "posts" in exchange.target else user | {"username": "", "email": "a@b.c"}
        control = "max-age=1, stale-while-revalidate=60"
        await respond_with(json.dumps(data).encode(), cache_control=control)(exchange)


async def starvation(directory: Path) -> AsyncIterator[Figure]:
    """One service, whose upstreams serve a hot key, many keys, and bursts after slow spells."""
    stored = {"USERS": _Stored(), "POSTS": _Stored()}
    switches = {"USERS": Switch(), "POSTS": Switch(), "TODOS": Switch(_CALM)}
    async with (
        three_upstreams(switches) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        hot, many, (at_once, quiet, calm) = await asyncio.gather(
            _seconds_until_new(service, switches["USERS"], stored["USERS"], "user", 1),
            _seconds_until_new(service, switches["POSTS"], stored["POSTS"], "posts", _MANY_KEYS),
            _bursts_after_slow_spells(service, switches["TODOS"]),
        )
    for keys, seconds in (("one key", hot), (f"{_MANY_KEYS} keys", many)):
        name = f"starvation, {keys}, last old data after the outage"
        yield at_most(name, seconds, _NEW_WITHIN, "ms")
    name = f"starvation, burst of {_BURST} after a slow spell"
    yield info(f"{name} and a second, answered", f"{at_once * 100:.1f} %")
    yield at_least(f"{name} and {_QUIET:g} s of quiet, answered", quiet, 1.0, "%")
    yield at_least(f"{name} and {_CALM_CALLS} calm calls, answered", calm, 1.0, "%")


async def _seconds_until_new(
    service: Service, switch: Switch, stored: _Stored, section: str, keys: int
) -> float:
    """From the end of an outage until nobody gets old data any more."""
    asked = cycle(range(1000, 1000 + keys))
    switch.reply = stored

    async def load(seconds: float) -> list[Response]:
        request = f"?include={section}"
        return await open_loop(lambda: service.overview(next(asked), request), 100, seconds)

    await load(2)
    async with switch.switched_to(_ERROR):
        await load(_OUTAGE)
        stored.version = "second"
    ended = perf_counter()
    responses = await load(4)
    return max(one.began for one in responses if "second" not in one.text) - ended


async def _bursts_after_slow_spells(service: Service, switch: Switch) -> tuple[float, float, float]:
    """Shares answered: after a second, after quiet, and after calm calls."""

    async def request() -> Response:
        return await service.overview(next(users), "?include=todos")

    async def slow_spell() -> None:
        async with switch.switched_to(_SLOW):
            await open_loop(request, 50, _SPELL)

    async def share_answered() -> float:
        return sum(one.complete for one in await burst(request, _BURST)) / _BURST

    await open_loop(request, 50, 2)
    await slow_spell()
    await asyncio.sleep(1)
    at_once = await share_answered()
    await slow_spell()
    await asyncio.sleep(_QUIET)
    quiet = await share_answered()
    await slow_spell()
    await open_loop(request, 20, _CALM_CALLS / 20)
    return at_once, quiet, await share_answered()
