"""Clients in a hurry beside patient ones: their deadlines and hang-ups count against nobody."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_least, at_most
from chaos.load import open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import good, never, respond_with
from tests.service.upstream import Exchange, Reply

_ERROR = respond_with(b"", "500 Internal Server Error")
_LATENCY = 0.1
_PATIENT = 10.0
"""Requests a second."""
_HURRIED = 10 * _PATIENT
_WITHIN = (0.8, 1.2)
"""What the hurried ones allow, in the time that an answer takes."""
_SHORT_LIVED = 300.0
"""Requests a second that hang up, or have a deadline of a millisecond."""
_ALONE, _BESIDE, _OUTAGE, _AFTERWARDS = 3.0, 10.0, 4.0, 4.0
_RECOVERED_WITHIN = 1.5
_ABSENT = 10**9
"""Users from here on do not exist, and the upstream knows at once."""
_absent = count(_ABSENT)


async def _steady(exchange: Exchange) -> None:
    user = int(exchange.target.replace("=", "/").rpartition("/")[2])
    if user >= _ABSENT:
        await respond_with(b"{}", "404 Not Found")(exchange)
    else:
        await asyncio.sleep(_LATENCY)
        await good(exchange)


_Request = Callable[[Service, str], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Other clients of one upstream, with their rates, and how that fails in an outage."""

    upstream: str
    section: str
    others: Sequence[tuple[_Request, float]]
    outage: Reply


async def hurry(directory: Path) -> AsyncIterator[Figure]:
    """Three upstreams of one service, each with clients of another kind in a hurry."""
    chance = random.Random(7)

    async def hurried(service: Service, section: str) -> Response:
        timeout = _LATENCY * chance.uniform(*_WITHIN) * 1000
        headers = {"X_Request_Timeout_Ms": f"{timeout:.0f}"}
        return await service.overview(next(users), f"?include={section}", **headers)

    async def absent(service: Service, section: str) -> Response:
        return await service.overview(next(_absent), f"?include={section}")

    async def short_lived(service: Service, section: str) -> Response:
        query = f"?include={section}"
        if chance.random() < 0.5:
            return await service.overview(next(users), query, X_Request_Timeout_Ms="1")
        began = perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0, _LATENCY)):
                return await service.overview(next(users), query)
        return Response(began, perf_counter() - began, 499, {}, "")

    kinds = {
        "hurried": _Kind("POSTS", "posts", [(hurried, _HURRIED)], never),
        "hurried and absent": _Kind(
            "USERS", "user", [(hurried, _HURRIED), (absent, _HURRIED)], _ERROR
        ),
        "short-lived": _Kind("TODOS", "todos", [(short_lived, _SHORT_LIVED)], _ERROR),
    }
    switches = {kind.upstream: Switch(_steady) for kind in kinds.values()}
    async with (
        three_upstreams(switches) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        runs = await asyncio.gather(
            *(_run(service, switches[kind.upstream], kind) for kind in kinds.values())
        )
    for kind, (alone, beside, recovered, afterwards) in zip(kinds, runs, strict=True):
        name = f"hurry, {kind}, patient ones"
        yield at_most(f"{name}, lost of their complete answers", alone - beside, 0.01, "%")
        yield at_most(f"{name}, after an outage", recovered, _RECOVERED_WITHIN, "ms")
        yield at_least(f"{name}, complete from then on", afterwards, 0.99, "%")


async def _run(service: Service, switch: Switch, kind: _Kind) -> tuple[float, float, float, float]:
    """Shares of complete answers alone and beside the others; seconds to recover; share after."""

    async def patient(seconds: float) -> list[Response]:
        query = f"?include={kind.section}"
        return await open_loop(lambda: service.overview(next(users), query), _PATIENT, seconds)

    alone = await patient(_ALONE)
    seconds = _BESIDE + _OUTAGE + _AFTERWARDS
    others = [
        asyncio.create_task(open_loop(partial(request, service, kind.section), rate, seconds))
        for request, rate in kind.others
    ]
    beside = await patient(_BESIDE)
    async with switch.switched_to(kind.outage):
        await patient(_OUTAGE)
    ended = perf_counter()
    after = await patient(_AFTERWARDS)
    await asyncio.gather(*others)
    recovered = min((one.began for one in after if one.complete), default=float("inf")) - ended
    late = [one for one in after if one.began >= ended + _RECOVERED_WITHIN]
    return _complete(alone), _complete(beside), recovered, _complete(late)


def _complete(responses: list[Response]) -> float:
    return sum(one.complete for one in responses) / len(responses)
