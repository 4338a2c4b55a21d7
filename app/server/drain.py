"""Draining: after a stop signal, `/readyz` says 503 first, and the listener closes later."""

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn


class DrainingServer(uvicorn.Server):
    """A server that finishes the answers in flight before it stops, and then exits with 0.

    A stop signal calls `on_stop` at once, and the listener stays open: a load balancer can see that
    the service is not ready any more. `on_start` gets the base URL of each listener. After
    `drain_timeout` seconds, an answer in flight can only be waiting for a client that does not
    read; it is waited for no longer here.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_start: Callable[[str], None],
        on_stop: Callable[[], None],
        drain_timeout: float,
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._drain_timeout = drain_timeout
        self._in_flight: set[asyncio.Task[None]] | None = None
        self._drain_deadline = inf

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        for server in self.servers:
            for opened in server.sockets:
                host, port = opened.getsockname()[:2]
                self._on_start(
                    f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Uvicorn's own handler would raise the signal again after the shutdown, and a clean stop
        # would look like a kill.
        if not self.started or self._in_flight is not None:
            self.should_exit = self.force_exit = True
            return
        self._on_stop()
        self._in_flight = set(self.server_state.tasks)
        self._drain_deadline = monotonic() + self._drain_timeout

    async def on_tick(self, counter: int) -> bool:
        drained = self._in_flight is not None and (
            all(task.done() for task in self._in_flight) or monotonic() > self._drain_deadline
        )
        return await super().on_tick(counter) or drained
