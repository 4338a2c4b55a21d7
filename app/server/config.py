"""How uvicorn runs the service, and what all of its connections share."""

import asyncio
import resource
import socket
from functools import cached_property
from math import ceil

import uvicorn
from starlette.types import ASGIApp

from app.server.acceptor import Acceptor
from app.server.admission_queue import AdmissionQueue
from app.server.connections import ClientConnections
from app.server.refusals import Refusals
from app.settings import Settings
from app.telemetry.logs import Log

_OWN_DESCRIPTORS = 64
"""For the listener, the log, name lookups and whatever else is ours."""
_MIN_CONNECTIONS = 16


class ServerConfig(uvicorn.Config):
    """Uvicorn's configuration for these settings; `http` is the class of its protocol."""

    def __init__(
        self,
        app: ASGIApp,
        http: type[asyncio.Protocol],
        settings: Settings,
        log: Log,
        listener: socket.socket,
        *,
        idle_timeout: int,
    ) -> None:
        super().__init__(
            app,
            loop="uvloop",
            http=http,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here depends on who asks, or over what
            timeout_keep_alive=idle_timeout,
            # For requests that came after the signal, and for answers that are not read yet.
            timeout_graceful_shutdown=ceil(settings.request_timeout_max),
        )
        self._settings = settings
        self.log = log
        self._prefix = settings.root_path.encode() + b"/"
        self.refusals = Refusals(settings.root_path)
        self.acceptor = Acceptor(listener)
        self.client_connections = ClientConnections(_connection_limit(settings))

    def without_prefix(self, target: bytes) -> bytes:
        """A request's target: a proxy may leave its prefix in it, or take it off."""
        return target[len(self._prefix) - 1 :] if target.startswith(self._prefix) else target

    @cached_property
    def admission(self) -> AdmissionQueue:
        """Made within the running loop."""

        def on_shed(requests: int) -> None:
            self.log.warning("requests shed", requests=requests)

        loop = asyncio.get_running_loop()
        most = self.client_connections.limit // 2
        return AdmissionQueue(loop, self._settings.request_timeout, most, on_shed)


def weight_of(target: bytes) -> int:
    """About how many single views a request is: a batch is as many as it has users."""
    if b"user_id" not in target:
        return 1
    return sum(map(target.count, (b"user_id", b",", b"%2C", b"%2c")))


def _connection_limit(settings: Settings) -> int:
    """Of clients: what is left of the descriptors when our own calls to upstreams have theirs."""
    calls = sum(upstream.concurrency for _, upstream in settings.upstreams.items())
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(settings.connections, most - calls - _OWN_DESCRIPTORS), _MIN_CONNECTIONS)


def raise_descriptor_limit() -> None:
    """Use all descriptors that the system lets us have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
