"""Run the service: `python -m app`."""

import asyncio
import gc
import logging
import socket
import sys
from math import ceil, inf
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.api.protocol import IDLE_TIMEOUT, Protocol
from app.main import create_app
from app.settings import ConfigError, Settings, load, unknown
from app.telemetry import logs


class Server(uvicorn.Server):
    """Uvicorn, leaving in two steps: first it says so at `/readyz`, then it goes.

    On a stop signal readiness drops at once while the listener stays open, so that a load
    balancer sees it; when the answers under way are finished, the server closes and exits with 0.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, log: logs.Log) -> None:
        super().__init__(config)
        self._app = app
        self._log = log
        self._in_flight: set[asyncio.Task[None]] | None = None
        self._drain_deadline = inf

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        # What start-up left behind lives for ever, and requests leave hardly a cycle behind:
        # looking for some every 700 allocations was felt under load.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        for server in self.servers:
            for opened in server.sockets:
                host, port = opened.getsockname()[:2]
                base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
                self._log.info(
                    "listening",
                    overview=f"{base}/v1/users/1/overview",
                    docs=f"{base}/docs",
                    upstreams="demo" if self._app.state.service.settings.demo else "configured",
                )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not handed on to uvicorn: it would raise the signal again when all is done, and a stop
        # that went well would look like a kill.
        if not self.started or self._in_flight is not None:
            self.should_exit = self.force_exit = True
            return
        self._app.state.service.draining = True
        self._in_flight = set(self.server_state.tasks)
        # By then every answer is out; what is left waits for a client that does not read.
        self._drain_deadline = monotonic() + self._app.state.service.settings.request_timeout_max

    async def on_tick(self, counter: int) -> bool:
        drained = self._in_flight is not None and (
            all(task.done() for task in self._in_flight) or monotonic() > self._drain_deadline
        )
        return await super().on_tick(counter) or drained


def listen(settings: Settings) -> socket.socket:
    """The listening socket, opened here because uvicorn's word for a failure names no variable."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # the rest repeats the values
        raise ConfigError(f"HOST, PORT: cannot be listened on: {reason}") from None


def serve(settings: Settings, listener: socket.socket) -> None:
    app = create_app(settings)
    log = logs.logger(settings)
    logging.getLogger().addHandler(logs.ToStructlog(log))
    for variable in unknown():
        log.warning("unknown setting", variable=variable)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who asks, or over what
        timeout_keep_alive=IDLE_TIMEOUT,
        # For those who came after the signal, and for what is written but not yet taken.
        timeout_graceful_shutdown=ceil(settings.request_timeout_max),
    )
    server = Server(config, app, log)
    server.run(sockets=[listener])
    if server.force_exit:
        sys.exit("stopped before the answers under way were finished")


def main() -> None:
    try:
        settings = load()
        listener = listen(settings)
    except ConfigError as wrong:
        sys.exit(str(wrong))
    serve(settings, listener)


if __name__ == "__main__":
    main()
