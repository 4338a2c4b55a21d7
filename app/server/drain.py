"""Draining: after a stop signal, `/readyz` says 503 first, and the listener closes later."""

import asyncio
import socket
from collections.abc import Callable
from math import inf
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn

_SAME_STOP = 1.0
"""Seconds. A signal to a process group comes twice where a parent hands it on, as make does."""

_LAST_ANSWERS = 1.0
"""Seconds, for the 503 of those who still wait when the service is forced to stop."""


class DrainingServer(uvicorn.Server):
    """A stop signal calls `on_stop` at once, and the listener stays open: a load balancer can see
    that the service is not ready any more. When the answers in flight are finished, but not before
    `drain_seconds`, the server closes.

    `on_start` gets the base URL of each listener. After `drain_timeout` seconds, an answer in
    flight can only be waiting for a client that does not read; it is waited for no longer here. A
    second signal ends the waiting, and `force_exit` is set then.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_start: Callable[[str], None],
        on_stop: Callable[[], None],
        drain_timeout: float,
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_stop = on_stop
        self._drain_timeout = drain_timeout
        self._drain_seconds = drain_seconds
        self._in_flight: set[asyncio.Task[None]] | None = None
        self._stopped_at = inf

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        for server in self.servers:
            for opened in server.sockets:
                host, port = opened.getsockname()[:2]
                self._on_start(
                    f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not handed on to uvicorn: it would raise the signal again when all is done, and a stop
        # that went well would look like a kill.
        if not self.started:
            self.should_exit = self.force_exit = True
        elif self._in_flight is None:
            self._on_stop()
            self._in_flight = set(self.server_state.tasks)
            self._stopped_at = monotonic()
        elif monotonic() > self._stopped_at + _SAME_STOP:
            self.should_exit = self.force_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit and self.started:
            # Left to the end of the loop, as uvicorn does, the lifespan would log a traceback.
            for task in (tasks := list(self.server_state.tasks)):
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_LAST_ANSWERS)
            await self.lifespan.shutdown()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._is_drained()

    def _is_drained(self) -> bool:
        since = monotonic() - self._stopped_at
        if self._in_flight is None or since < self._drain_seconds:
            return False
        return since > self._drain_timeout or all(task.done() for task in self._in_flight)
