"""Replies of limited capacity and replies that change, for the upstream of the tests."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from chaos.service import NAMES
from tests.service.replies import good
from tests.service.upstream import Exchange, Reply, Upstream


class Workers:
    """A reply by a number of workers that take `seconds` for each call, and share one queue.

    As with most servers, work goes on for clients that have disconnected.
    """

    def __init__(self, workers: int, seconds: float, reply: Reply = good) -> None:
        self._workers = workers
        self.seconds = seconds
        self._reply = reply
        self._queue: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self.max_queued = 0

    @property
    def capacity(self) -> float:
        """Calls a second."""
        return self._workers / self.seconds

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def _work(self) -> None:
        time = asyncio.get_running_loop().time
        free_at = time()
        while True:
            done = await self._queue.get()
            # Timers are late by a millisecond or so, which must not add up to a lower capacity.
            free_at = max(free_at, time() - 0.002) + self.seconds
            await asyncio.sleep(free_at - time())
            if not done.done():
                done.set_result(None)

    async def __call__(self, exchange: Exchange) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(done)
        self.max_queued = max(self.max_queued, self._queue.qsize())
        await done
        await self._reply(exchange)


class Switch:
    """A reply that can be changed."""

    def __init__(self, reply: Reply = good) -> None:
        self.reply = reply

    async def __call__(self, exchange: Exchange) -> None:
        await self.reply(exchange)

    @asynccontextmanager
    async def switched_to(self, reply: Reply) -> AsyncIterator[None]:
        before, self.reply = self.reply, reply
        try:
            yield
        finally:
            self.reply = before


@asynccontextmanager
async def three_upstreams(
    replies: Mapping[str, Reply] | None = None,
) -> AsyncIterator[dict[str, Upstream]]:
    """An upstream for each section."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(Upstream((replies or {}).get(name, good)))
            for name in NAMES
        }


def url_settings(upstreams: Mapping[str, Upstream]) -> dict[str, str]:
    return {f"UPSTREAMS__{name}__URLS": one.url for name, one in upstreams.items()}
