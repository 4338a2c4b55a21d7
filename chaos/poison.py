"""One key fails whenever it is asked for: all others are answered, and an outage is noticed."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_least, at_most
from chaos.load import open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import delayed, never, respond_with
from tests.service.upstream import Exchange, Reply, Upstream

_ERROR = respond_with(b"", "500 Internal Server Error")
# Each upstream fails in its own way, so that one service meets all of them.
_FAULTS: dict[str, tuple[str, str, Reply]] = {
    "500": ("USERS", "user", _ERROR),
    "garbage": ("POSTS", "posts", respond_with(b"[{]")),
    "timeout": ("TODOS", "todos", never),
}
_POISON = 13
_RATE = 20.0
"""Good requests a second for each upstream."""
_TIMES = (1, 2, 5)
"""The rate of the bad ones, in good ones."""
_SECONDS = 15.0
_OUTAGE = 3.0
_AFTERWARDS = 4.0
_CLOSED_WITHIN = 2.0
_RESULTS = 20
_IN_FLIGHT = 5
"""Calls whose results came while a client was told."""


class _Poisoned(Switch):
    """A reply that can be changed, but for one key, which it always fails for."""

    def __init__(self, fault: Reply) -> None:
        super().__init__(delayed(0.02))
        self.fault = fault

    async def __call__(self, exchange: Exchange) -> None:
        await (self.fault if _is_poison(exchange) else self.reply)(exchange)


def _is_poison(exchange: Exchange) -> bool:
    return re.search(rf"\b{_POISON}$", exchange.target) is not None


@dataclass(slots=True)
class _Case:
    """One upstream with one bad key: what the clients and the upstream saw."""

    good: list[Response] = field(default_factory=list)
    bad: list[Response] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    """When the bad key was asked for, until the outage."""
    outage: float = 0.0
    """When it began."""
    outage_ended: float = 0.0
    results: list[float] = field(default_factory=list)
    """When each call of the outage ended."""
    after: list[Response] = field(default_factory=list)
    """The good ones since the outage began."""


async def poison(directory: Path) -> AsyncIterator[Figure]:
    """Three services side by side, for the three rates; each has three upstreams."""
    runs = await asyncio.gather(*(_run(directory, times) for times in _TIMES))
    for times, cases in zip(_TIMES, runs, strict=True):
        for fault, case in cases.items():
            for figure in _figures(f"poison, {fault} at {times} times the rate", case):
                yield figure


def _figures(name: str, case: _Case) -> list[Figure]:
    complete = sum(one.complete for one in case.good) / len(case.good)
    known = _first_refusal(case.bad)
    known_calls = sum(at >= known for at in case.asked)
    seconds = case.outage - known
    opened = _first_refusal(case.after)
    results = sum(at < opened for at in case.results)
    ended = case.outage_ended
    late = [one for one in case.after if one.began >= ended + _CLOSED_WITHIN]
    closed = min(
        (one.began for one in case.after if one.began > ended and one.complete),
        default=float("inf"),
    )
    return [
        at_least(f"{name}, good ones complete", complete, 0.99, "%"),
        at_most(f"{name}, calls a second once it is known", known_calls / seconds, 1.0, "/s"),
        at_most(f"{name}, results of an outage until open", results, _RESULTS + _IN_FLIGHT),
        at_most(f"{name}, first answer after the outage", closed - ended, _CLOSED_WITHIN, "ms"),
        at_least(
            f"{name}, complete from then on", sum(one.complete for one in late) / len(late), 1, "%"
        ),
    ]


def _first_refusal(responses: list[Response]) -> float:
    """When a client was first told that the circuit is open."""
    refused = (one for one in responses if "circuit_open" in one.text)
    return min((one.began + one.seconds for one in refused), default=float("inf"))


async def _run(directory: Path, times: int) -> dict[str, _Case]:
    replies = {upstream: _Poisoned(fault) for upstream, _, fault in _FAULTS.values()}
    async with (
        three_upstreams(replies) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        cases = await asyncio.gather(
            *(
                _case(service, upstreams[name], replies[name], section, times)
                for name, section, _ in _FAULTS.values()
            )
        )
    return dict(zip(_FAULTS, cases, strict=True))


async def _case(
    service: Service, upstream: Upstream, reply: _Poisoned, section: str, times: int
) -> _Case:
    query, case = f"?include={section}", _Case()
    seconds = _SECONDS + _OUTAGE + _AFTERWARDS
    bad = asyncio.create_task(
        open_loop(lambda: service.overview(_POISON, query), times * _RATE, seconds)
    )

    async def good(seconds: float) -> list[Response]:
        return await open_loop(lambda: service.overview(next(users), query), _RATE, seconds)

    case.good = await good(_SECONDS)
    before = len(upstream.exchanges)
    case.asked = [one.began for one in upstream.exchanges if _is_poison(one)]
    case.outage = perf_counter()
    after = asyncio.create_task(good(_OUTAGE + _AFTERWARDS))
    async with reply.switched_to(reply.fault):
        await asyncio.sleep(_OUTAGE)
        case.outage_ended = perf_counter()
    case.after = await after
    case.bad = await bad
    ends = (one.ended for one in upstream.exchanges[before:])
    case.results = [end for end in ends if end is not None and end < case.outage_ended]
    return case
