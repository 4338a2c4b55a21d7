"""Run the service: `python -m app`."""

import gc
import logging
import os
import socket
import sys

from app.main import create_app
from app.server.config import ServerConfig, raise_descriptor_limit
from app.server.drain import DrainingServer
from app.server.http_protocol import HttpProtocol
from app.server.idle_timeout import IDLE_TIMEOUT
from app.settings import ConfigError, Settings, load, unknown_variables
from app.telemetry import logs
from app.telemetry.log_writer import LogWriter

_LAST_LINES_SECONDS = 1.0
"""That the end of the process waits for whoever reads the log."""


def listen(settings: Settings) -> socket.socket:
    """The listening socket, opened here because uvicorn's error names no variable.

    `::` is every address of both families.
    """
    is_ipv6 = ":" in settings.host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    both = is_ipv6 and socket.has_dualstack_ipv6()
    address = settings.host, settings.port
    try:
        return socket.create_server(address, family=family, backlog=2048, dualstack_ipv6=both)
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]  # the rest repeats the values
        raise ConfigError(f"HOST, PORT: cannot be listened on: {reason}") from None


def serve(settings: Settings, listener: socket.socket) -> None:
    writer = LogWriter()
    log = logs.logger(settings, writer.write)
    app = create_app(settings, log=log)
    logging.getLogger().addHandler(logs.ToStructlog(log))
    for variable, nearest in unknown_variables().items():
        log.warning("unknown setting", variable=variable, nearest=nearest)

    def on_start(base: str) -> None:
        _tune_garbage_collector()
        log.info(
            "listening",
            page=f"{base}/",
            overview=f"{base}/v1/users/1/overview",
            docs=f"{base}/docs",
            upstreams="demo" if settings.demo else "configured",
        )

    def on_stop() -> None:
        app.state.service.draining = True
        config.admission.begin_all()

    raise_descriptor_limit()
    config = ServerConfig(app, HttpProtocol, settings, log, listener, idle_timeout=IDLE_TIMEOUT)
    server = DrainingServer(
        config,
        on_start=on_start,
        on_stop=on_stop,
        drain_timeout=settings.request_timeout_max,
        drain_seconds=settings.drain_seconds,
    )
    try:
        server.run(sockets=[listener])
    finally:
        writer.close(_LAST_LINES_SECONDS)
    if server.force_exit:
        sys.exit("stopped before the answers in flight were finished")


def _tune_garbage_collector() -> None:
    """Leave out what start-up made, and collect less often.

    Objects made at start live as long as the process, and requests leave hardly any cycles: the
    default of a collection every 700 allocations costs measurable time under load.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _open_standard_streams() -> None:
    """Where one is closed, its number would go to a socket, and what is meant for it into that."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def main() -> None:
    _open_standard_streams()
    try:
        settings = load()
        listener = listen(settings)
    except ConfigError as error:
        sys.exit(str(error))
    serve(settings, listener)


if __name__ == "__main__":
    main()
