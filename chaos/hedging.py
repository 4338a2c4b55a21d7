"""One upstream call in twenty takes a second: what hedging makes of it, and at what price."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from chaos.figures import Figure, at_most, percentile, told
from chaos.load import open_loop, users
from chaos.service import NAMES, Answered, served
from tests.service.replies import good
from tests.service.upstream import Exchange, Upstream

_RATE = 100.0
"""Overviews a second. With one in seven waiting for a slow call, 16 are in flight."""
_COLD = 2.0
_SECONDS = 10.0
_SECTIONS = 3
_SLOW_SHARE = 0.05
_SLOW = 1.0
_QUICK = 0.02
_ALL_SLOW = 0.3


class _Tail:
    """Some calls are slow, by chance but the same ones in every run; or all of them are."""

    def __init__(self) -> None:
        self._chance = random.Random(13)
        self.all_slow = False

    async def __call__(self, exchange: Exchange) -> None:
        slow = self._chance.random() < _SLOW_SHARE
        await asyncio.sleep(_ALL_SLOW if self.all_slow else _SLOW if slow else _QUICK)
        await good(exchange)


@dataclass(frozen=True, slots=True)
class _Ran:
    p99: float
    cold_p99: float
    calls: float
    """To upstreams, for each section of the overviews asked for; so is `slow_calls`."""
    slow_calls: float
    incomplete: int
    settled: float
    """When the last answer that felt a slow call came, of those that were asked for at first."""


async def hedging(directory: Path) -> AsyncIterator[Figure]:
    """The same load with and without; hedges go to the same URL, or to a second mirror."""
    without = await _ran(directory, "off", 1)
    yield told("hedging, off", f"p99 {without.p99 * 1000:.0f} ms")
    for mirrors in (1, 2):
        name = f"hedging, {mirrors} URL{'s' * (mirrors > 1)}"
        ran = await _ran(directory, "auto", mirrors)
        yield at_most(f"{name}, p99 of off", ran.p99 / without.p99, 0.25, "%")
        yield told(f"{name}, p99", f"{ran.p99 * 1000:.0f} ms")
        yield at_most(f"{name}, more calls", ran.calls - 1, 0.08, "%")
        yield at_most(f"{name}, more calls when all are slow", ran.slow_calls - 1, 0.01, "%")
        yield at_most(f"{name}, incomplete", ran.incomplete, 0)
        yield told(
            f"{name}, from cold",
            f"p99 {ran.cold_p99 * 1000:.0f} ms in the first {_COLD:g} s, "
            f"the last overview without a hedge after {ran.settled:.2f} s",
        )


async def _ran(directory: Path, hedge: str, mirrors: int) -> _Ran:
    """From cold, then steady, then with all calls slow."""
    async with AsyncExitStack() as stack:
        tails = [_Tail() for _ in NAMES]
        upstreams = [
            [await stack.enter_async_context(Upstream(tail)) for _ in range(mirrors)]
            for tail in tails
        ]
        urls = {
            f"UPSTREAMS__{name}__URLS": ",".join(one.url for one in each)
            for name, each in zip(NAMES, upstreams, strict=True)
        }
        each = {"ATTEMPT_TIMEOUT": 1.5, "HEDGE": hedge}
        service = await stack.enter_async_context(
            served(directory, each, REQUEST_TIMEOUT=5, **urls)
        )

        async def ask() -> Answered:
            return await service.overview(next(users))

        async def measured(seconds: float) -> tuple[list[Answered], float]:
            before = sum(len(one.seen) for each in upstreams for one in each)
            answers = await open_loop(ask, _RATE, seconds)
            after = sum(len(one.seen) for each in upstreams for one in each)
            return answers, (after - before) / len(answers) / _SECTIONS

        cold, _ = await measured(_COLD)
        steady, calls = await measured(_SECONDS)
        slow: list[Answered] = []
        slow_calls = 1.0
        if hedge != "off":
            for tail in tails:
                tail.all_slow = True
            await measured(3)  # until the change of weather shows
            slow, slow_calls = await measured(5)
        return _Ran(
            p99=percentile([one.seconds for one in steady], 0.99),
            cold_p99=percentile([one.seconds for one in cold], 0.99),
            calls=calls,
            slow_calls=slow_calls,
            incomplete=sum(not one.complete for one in cold + steady + slow),
            settled=max(
                (one.began - cold[0].began for one in cold if one.seconds >= _SLOW), default=0.0
            ),
        )
