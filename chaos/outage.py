"""Upstream outages: attempts and latency while the breaker is open, and stale-if-error."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from chaos.figures import Figure, at_least, at_most, exactly, info
from chaos.load import burst, open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import never, respond_with
from tests.service.running import NOISE
from tests.service.upstream import Upstream

# Each upstream fails in its own way, so that one service meets all of them.
_OUTAGES = {"refused": ("USERS", "user"), "500": ("POSTS", "posts"), "hang": ("TODOS", "todos")}
_ERROR = respond_with(b"", "500 Internal Server Error")

_TTL = 1.0
_IF_ERROR = 3.0
_OPEN_SECONDS = 1.0
"""How long a breaker stays open: the same as the service's own constant."""
_TOLERANCE = 0.15
"""Seconds around the end of a window in which either answer is right."""


def _down(
    outage: str, upstreams: Mapping[str, Upstream], switches: Mapping[str, Switch]
) -> AbstractAsyncContextManager[None]:
    name, _ = _OUTAGES[outage]
    match outage:
        case "refused":
            return upstreams[name].refusing()
        case "500":
            return switches[name].switched_to(_ERROR)
        case _:
            return switches[name].switched_to(never)


async def outage(directory: Path) -> AsyncIterator[Figure]:
    """All calls fail: the attempts they make, and how fast a client gets the failure."""
    switches = {name: Switch() for name, _ in _OUTAGES.values()}
    async with (
        three_upstreams(switches) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        for kind, (_, section) in _OUTAGES.items():

            async def request(section: str = section) -> Response:
                return await service.overview(next(users), f"?include={section}")

            await open_loop(request, 50, 1)
            async with _down(kind, upstreams, switches):
                at_once = await burst(request, 200)
                in_turn = await open_loop(request, 100, 4)
            for name, responses in (("200 at once", at_once), ("400 in turn", in_turn)):
                attempts = sum(_error(one, section)["attempts"] for one in responses)
                share = attempts / len(responses)
                yield at_most(f"outage, {kind}, attempts a call, {name}", share, 1.25)
            refused = [
                one.seconds
                for one in in_turn
                if _error(one, section)["reason"] == "circuit_open"
                and _error(one, section)["attempts"] == 0
            ]
            name = f"outage, {kind}, while open"
            yield at_least(f"{name}, answers", len(refused), 200)
            yield at_most(f"{name}, median", median(refused or [9]), 0.010, "ms")
            yield at_most(f"{name}, longest", max(refused or [9]), 0.010 + NOISE, "ms")


def _error(response: Response, section: str) -> Any:
    return response.json["sections"][section]["error"]


@dataclass(slots=True)
class _Observed:
    """What the client of one section saw during and after an outage."""

    wrong: list[str] = field(default_factory=list)
    stale: int = 0
    failed: int = 0
    opened: bool = False
    fresh_after: float = 0.0
    requests_until_fresh: int = 0


async def stale(directory: Path) -> AsyncIterator[Figure]:
    """Stale data until its window ends, then the failure; fresh data after the outage."""
    # So few calls that even their one key is not in quarantine, which would be as open.
    async for figure in _stale(directory, "closed", {"RETRIES": 0}, every=0.95):
        yield figure
    async for figure in _stale(directory, "open", {}, every=0.05):
        yield figure


async def _stale(
    directory: Path, breaker: str, settings: Mapping[str, object], every: float
) -> AsyncIterator[Figure]:
    """A few calls leave the breaker closed; a burst opens it."""
    switches = {name: Switch() for name, _ in _OUTAGES.values()}
    each = {"TTL": _TTL, "STALE_IF_ERROR": _IF_ERROR, "ATTEMPT_TIMEOUT": 0.2, **settings}
    async with (
        three_upstreams(switches) as upstreams,
        service_process(directory, each, **url_settings(upstreams)) as service,
    ):
        observed = await asyncio.gather(
            *(
                _observe(service, kind, every, _down(kind, upstreams, switches), breaker == "open")
                for kind in _OUTAGES
            )
        )
    for kind, one in zip(_OUTAGES, observed, strict=True):
        name = f"stale, {kind}, breaker {breaker}"
        yield info(f"{name}, answers", f"{one.stale} stale, then {one.failed} failed")
        yield exactly(f"{name}, wrong answers", len(one.wrong), 0)
        for wrong in one.wrong[:3]:
            yield info(f"{name}, wrong", wrong)
        yield exactly(f"{name}, has opened", one.opened, breaker == "open")
        if breaker == "open":
            # A probe sent just before the upstream is back takes its full attempt timeout.
            bound = _OPEN_SECONDS + 0.2 + every + NOISE
            yield at_most(f"{name}, fresh after", one.fresh_after, bound, "ms")
        else:
            yield exactly(f"{name}, requests until it is fresh", one.requests_until_fresh, 1)


async def _observe(
    service: Service,
    kind: str,
    every: float,
    down: AbstractAsyncContextManager[None],
    open_breaker: bool,
) -> _Observed:
    """One user's answers during and after an outage; with `open_breaker`, others call as well."""
    _, section = _OUTAGES[kind]
    query = f"?include={section}"
    user = next(users)
    observed = _Observed()

    async def request() -> Any:
        body = (await service.overview(user, query)).json
        answer = body.get("sections", body)[section]
        reason = answer["error"]["reason"] if answer["status"] == "failed" else ""
        observed.opened = observed.opened or reason == "circuit_open"
        return answer

    first = await request()
    fresh_at = perf_counter()
    async with down, asyncio.TaskGroup() as group:
        if open_breaker:
            group.create_task(burst(lambda: service.overview(next(users), query), 100))
        while (began := perf_counter() - fresh_at) < _TTL + _IF_ERROR + 1:
            answer = await request()
            ended = perf_counter() - fresh_at
            status = "stale" if answer.get("stale") else answer["status"]
            right_as_of = status == "failed" or answer["as_of"] == first["as_of"]
            if not right_as_of or not _right(status, began, ended):
                observed.wrong.append(f"{status} at {began:.2f} to {ended:.2f} s")
            observed.stale += status == "stale"
            observed.failed += status == "failed"
            await asyncio.sleep(random.uniform(0.9, 1.1) * every)
    recovered_at = perf_counter()
    while True:
        observed.requests_until_fresh += 1
        if (await request())["status"] == "ok":
            break
        await asyncio.sleep(every)
    observed.fresh_after = perf_counter() - recovered_at
    return observed


def _right(status: str, began: float, ended: float) -> bool:
    """Whether a request between these seconds after the last good answer may have this status."""
    fresh_until, stale_until = _TTL, _TTL + _IF_ERROR
    match status:
        case "ok":
            return began < fresh_until + _TOLERANCE
        case "stale":
            return ended > fresh_until - _TOLERANCE and began < stale_until + _TOLERANCE
        case _:
            return ended > stale_until - _TOLERANCE
