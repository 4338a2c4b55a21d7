"""Hedging: 5 % of the upstream calls take a second. The p99 with hedges, and the extra calls."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from chaos.figures import Figure, at_most, info, percentile
from chaos.load import open_loop, users
from chaos.service import NAMES, Response, service_process
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


class _TailLatency:
    """Good after a while: long for a random share of calls, the same in every run, or for all."""

    def __init__(self) -> None:
        self._chance = random.Random(13)
        self.all_slow = False

    async def __call__(self, exchange: Exchange) -> None:
        slow = self._chance.random() < _SLOW_SHARE
        await asyncio.sleep(_ALL_SLOW if self.all_slow else _SLOW if slow else _QUICK)
        await good(exchange)


@dataclass(frozen=True, slots=True)
class _Result:
    p99: float
    cold_p99: float
    calls: float
    """To upstreams, for each section of the overviews; `slow_calls` are those when all are slow."""
    slow_calls: float
    incomplete: int
    settled: float
    """Seconds into the cold phase at which the last overview that waited for a slow call began."""


async def hedging(directory: Path) -> AsyncIterator[Figure]:
    """The same load with and without hedges, which go to the same URL or to a second mirror."""
    without = await _run(directory, "off", 1)
    yield info("hedging, off", f"p99 {without.p99 * 1000:.0f} ms")
    for mirrors in (1, 2):
        name = f"hedging, {mirrors} URL{'s' * (mirrors > 1)}"
        result = await _run(directory, "auto", mirrors)
        yield at_most(f"{name}, p99 of off", result.p99 / without.p99, 0.25, "%")
        yield info(f"{name}, p99", f"{result.p99 * 1000:.0f} ms")
        yield at_most(f"{name}, more calls", result.calls - 1, 0.08, "%")
        yield at_most(f"{name}, more calls when all are slow", result.slow_calls - 1, 0.01, "%")
        yield at_most(f"{name}, incomplete", result.incomplete, 0)
        yield info(
            f"{name}, from cold",
            f"p99 {result.cold_p99 * 1000:.0f} ms in the first {_COLD:g} s, "
            f"the last overview without a hedge after {result.settled:.2f} s",
        )


async def _run(directory: Path, hedge: str, mirrors: int) -> _Result:
    """A cold phase, a steady one, and one with all calls slow."""
    async with AsyncExitStack() as stack:
        replies = [_TailLatency() for _ in NAMES]
        upstreams = [
            [await stack.enter_async_context(Upstream(reply)) for _ in range(mirrors)]
            for reply in replies
        ]
        urls = {
            f"UPSTREAMS__{name}__URLS": ",".join(one.url for one in each)
            for name, each in zip(NAMES, upstreams, strict=True)
        }
        each = {"ATTEMPT_TIMEOUT": 1.5, "HEDGE": hedge}
        service = await stack.enter_async_context(
            service_process(directory, each, REQUEST_TIMEOUT=5, **urls)
        )

        async def request() -> Response:
            return await service.overview(next(users))

        async def measure(seconds: float) -> tuple[list[Response], float]:
            before = sum(len(one.exchanges) for each in upstreams for one in each)
            responses = await open_loop(request, _RATE, seconds)
            after = sum(len(one.exchanges) for each in upstreams for one in each)
            return responses, (after - before) / len(responses) / _SECTIONS

        cold, _ = await measure(_COLD)
        steady, calls = await measure(_SECONDS)
        slow: list[Response] = []
        slow_calls = 1.0
        if hedge != "off":
            for reply in replies:
                reply.all_slow = True
            await measure(3)  # until the latency estimate has adapted
            slow, slow_calls = await measure(5)
        return _Result(
            p99=percentile([one.seconds for one in steady], 0.99),
            cold_p99=percentile([one.seconds for one in cold], 0.99),
            calls=calls,
            slow_calls=slow_calls,
            incomplete=sum(not one.complete for one in cold + steady + slow),
            settled=max(
                (one.began - cold[0].began for one in cold if one.seconds >= _SLOW), default=0.0
            ),
        )
