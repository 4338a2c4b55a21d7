"""Upstreams that are gone: what it costs to ask them, and what can be told meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from chaos.figures import Figure, at_least, at_most, exactly, told
from chaos.load import at_once, open_loop, users
from chaos.service import Answered, Service, served
from chaos.upstreams import Switch, refusing, three, urls
from tests.service.replies import never, saying
from tests.service.running import NOISE
from tests.service.upstream import Upstream

# Each section loses its upstream in a way of its own, so that one service feels them all.
_KINDS = {"refused": ("USERS", "user"), "500": ("POSTS", "posts"), "hang": ("TODOS", "todos")}
_BROKEN = saying(b"", "500 Internal Server Error")

_TTL = 1.0
_IF_ERROR = 3.0
_OPEN_SECONDS = 1.0
"""Seconds that a breaker stays open, by the service's own word."""
_EDGE = 0.15
"""Seconds around the end of a window within which either answer is right."""


def _down(
    kind: str, upstreams: Mapping[str, Upstream], switches: Mapping[str, Switch]
) -> AbstractAsyncContextManager[None]:
    name, _ = _KINDS[kind]
    match kind:
        case "refused":
            return refusing(upstreams[name])
        case "500":
            return switches[name].doing(_BROKEN)
        case _:
            return switches[name].doing(never)


async def outage(directory: Path) -> AsyncIterator[Figure]:
    """All calls fail: how many attempts they make, and how long a client waits to hear of it."""
    switches = {name: Switch() for name, _ in _KINDS.values()}
    async with (
        three(switches) as upstreams,
        served(directory, {}, **urls(upstreams)) as service,
    ):
        for kind, (_, section) in _KINDS.items():

            async def ask(section: str = section) -> Answered:
                return await service.overview(next(users), f"?include={section}")

            await open_loop(ask, 50, 1)
            async with _down(kind, upstreams, switches):
                crowd = await at_once(ask, 200)
                stream = await open_loop(ask, 100, 4)
            for name, answers in (("200 at once", crowd), ("400 in turn", stream)):
                attempts = sum(_error(one, section)["attempts"] for one in answers)
                share = attempts / len(answers)
                yield at_most(f"outage, {kind}, attempts a call, {name}", share, 1.25)
            refused = [
                one.seconds
                for one in stream
                if _error(one, section)["reason"] == "circuit_open"
                and _error(one, section)["attempts"] == 0
            ]
            name = f"outage, {kind}, while open"
            yield at_least(f"{name}, answers", len(refused), 200)
            yield at_most(f"{name}, median", median(refused or [9]), 0.010, "ms")
            yield at_most(f"{name}, longest", max(refused or [9]), 0.010 + NOISE, "ms")


def _error(answer: Answered, section: str) -> Any:
    return answer.json["sections"][section]["error"]


@dataclass(slots=True)
class _Watched:
    """What one section's client saw: each answer with its age by the clock, in seconds."""

    wrong: list[str] = field(default_factory=list)
    stale: int = 0
    failed: int = 0
    opened: bool = False
    fresh_after: float = 0.0
    asked: int = 0


async def stale(directory: Path) -> AsyncIterator[Figure]:
    """What was good is told until its window ends, then the failure; and it comes back."""
    async for figure in _staled(directory, "closed", {"RETRIES": 0}, every=0.45):
        yield figure
    async for figure in _staled(directory, "open", {}, every=0.05):
        yield figure


async def _staled(
    directory: Path, breaker: str, settings: Mapping[str, object], every: float
) -> AsyncIterator[Figure]:
    """Few enough calls leave the breaker closed; a crowd opens it."""
    switches = {name: Switch() for name, _ in _KINDS.values()}
    each = {"TTL": _TTL, "STALE_IF_ERROR": _IF_ERROR, "ATTEMPT_TIMEOUT": 0.2, **settings}
    async with (
        three(switches) as upstreams,
        served(directory, each, **urls(upstreams)) as service,
    ):
        seen = await asyncio.gather(
            *(
                _watched(service, kind, every, _down(kind, upstreams, switches), breaker == "open")
                for kind in _KINDS
            )
        )
    for kind, one in zip(_KINDS, seen, strict=True):
        name = f"stale, {kind}, breaker {breaker}"
        yield told(f"{name}, answers", f"{one.stale} stale, then {one.failed} failed")
        yield exactly(f"{name}, wrong answers", len(one.wrong), 0)
        for wrong in one.wrong[:3]:
            yield told(f"{name}, wrong", wrong)
        yield exactly(f"{name}, has opened", one.opened, breaker == "open")
        if breaker == "open":
            # A probe may just be on its way to the dead one, and take its whole time.
            bound = _OPEN_SECONDS + 0.2 + every + NOISE
            yield at_most(f"{name}, fresh after", one.fresh_after, bound, "ms")
        else:
            yield exactly(f"{name}, requests until it is fresh", one.asked, 1)


async def _watched(
    service: Service,
    kind: str,
    every: float,
    down: AbstractAsyncContextManager[None],
    crowded: bool,
) -> _Watched:
    """One user's answers through good and bad times; when `crowded`, others ask as well."""
    _, section = _KINDS[kind]
    query = f"?include={section}"
    user = next(users)
    seen = _Watched()

    async def ask() -> Any:
        answer = (await service.overview(user, query)).json
        told = answer.get("sections", answer)[section]
        reason = told["error"]["reason"] if told["status"] == "failed" else ""
        seen.opened = seen.opened or reason == "circuit_open"
        return told

    first = await ask()
    good = perf_counter()
    async with down, asyncio.TaskGroup() as group:
        if crowded:
            group.create_task(at_once(lambda: service.overview(next(users), query), 100))
        while (asked := perf_counter() - good) < _TTL + _IF_ERROR + 1:
            told = await ask()
            ended = perf_counter() - good
            was = "stale" if told.get("stale") else told["status"]
            as_good = was == "failed" or told["as_of"] == first["as_of"]
            if not as_good or not _right(was, asked, ended):
                seen.wrong.append(f"{was} at {asked:.2f} to {ended:.2f} s")
            seen.stale += was == "stale"
            seen.failed += was == "failed"
            await asyncio.sleep(random.uniform(0.9, 1.1) * every)
    back = perf_counter()
    while True:
        seen.asked += 1
        if (await ask())["status"] == "ok":
            break
        await asyncio.sleep(every)
    seen.fresh_after = perf_counter() - back
    return seen


def _right(was: str, asked: float, ended: float) -> bool:
    """Whether an answer that was asked for and came so many seconds after the good one fits in."""
    fresh, end = _TTL, _TTL + _IF_ERROR
    match was:
        case "ok":
            return asked < fresh + _EDGE
        case "stale":
            return ended > fresh - _EDGE and asked < end + _EDGE
        case _:
            return ended > end - _EDGE
