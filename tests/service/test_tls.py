"""An upstream over TLS that hangs costs its own section, and neither sockets nor the others.

The graceful end of TLS waits for the peer, with asyncio and with uvloop for 30 seconds: one such
upstream and a few clients that do not wait so long would use up all descriptors in seconds.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest

from app.upstream.transport import Http1Transport
from tests.service.replies import good
from tests.service.running import NOISE, RunningService, running_service
from tests.service.upstream import Upstream
from tests.upstream.http1.sockets import client_context, open_sockets, server_context

pytestmark = pytest.mark.anyio

_CLIENTS = 30
_SECONDS = 2.0
_DEADLINE = 0.3
_ENDS_WITHIN = 0.1


class Hanging(asyncio.Protocol):
    """One connection to an upstream that reads, and never answers."""

    def __init__(self, upstream: "HangingUpstream") -> None:
        self._upstream = upstream
        self.began = perf_counter()
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def connection_made(self, _transport: asyncio.BaseTransport) -> None:
        self._upstream.connections.append(self)
        self._upstream.arrivals.put_nowait(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended.set_result(perf_counter())


class HangingUpstream:
    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Hanging] = []
        self.arrivals: asyncio.Queue[Hanging] = asyncio.Queue()

    @property
    def open(self) -> int:
        return sum(not connection.ended.done() for connection in self.connections)


@asynccontextmanager
async def hanging_upstream(tls: ssl.SSLContext | None) -> AsyncIterator[HangingUpstream]:
    """Without `tls`, it never finishes a handshake."""
    upstream = HangingUpstream()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Hanging(upstream), "127.0.0.1", 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()
    await server.wait_closed()


@pytest.fixture(params=["no answer", "no handshake"])
async def hanging(request: pytest.FixtureRequest) -> AsyncIterator[HangingUpstream]:
    tls = server_context() if request.param == "no answer" else None
    async with hanging_upstream(tls) as upstream:
        yield upstream


@asynccontextmanager
async def service_above(port: int, **posts: Any) -> AsyncIterator[RunningService]:
    """Its posts come from this port, over TLS; users and todos are well."""
    async with Upstream(good) as users, Upstream(good) as todos:
        upstreams = {
            "users": {"urls": users.url},
            "todos": {"urls": todos.url},
            "posts": {"urls": f"https://127.0.0.1:{port}", **posts},
        }
        transport = Http1Transport(192, client_context)
        async with running_service(
            transport=transport, upstreams=upstreams, log_level="error"
        ) as service:
            yield service


async def test_many_impatient_clients_leave_no_sockets_and_the_other_sections_are_answered(
    hanging: HangingUpstream,
) -> None:
    async with service_above(hanging.port) as service:
        began = perf_counter()
        answers = 0
        sockets: list[int] = []

        async def client(number: int) -> None:
            nonlocal answers
            user = number
            while perf_counter() - began < _SECONDS:
                user += _CLIENTS  # nobody's call is another's
                response = await service.overview_of(user, X_Request_Timeout_Ms="300")
                assert response.status == 200
                sections = response.json
                assert sections["user"]["status"] == sections["todos"]["status"] == "ok"
                assert sections["posts"]["status"] == "failed"
                assert response.seconds < _DEADLINE + 0.05 + NOISE
                answers += 1

        async def count() -> None:
            while True:
                await asyncio.sleep(0.05)
                sockets.append(open_sockets())

        counting = asyncio.create_task(count())
        await asyncio.gather(*(client(number) for number in range(_CLIENTS)))
        counting.cancel()
        await asyncio.wait([counting])
        assert answers >= _CLIENTS * 3
        assert len(hanging.connections) >= _CLIENTS
        half = len(sockets) // 2
        assert max(sockets[half:]) <= max(sockets[:half]) + 5
        for connection in hanging.connections:
            ended_at = await asyncio.wait_for(connection.ended, 1)
            assert ended_at - connection.began < _DEADLINE + _ENDS_WITHIN + NOISE
        assert await service.leaks() == []


async def test_a_client_that_leaves_ends_its_connection_to_a_hanging_upstream_within_100_ms(
    hanging: HangingUpstream,
) -> None:
    async with service_above(hanging.port, attempt_timeout=5.0, retries=0) as service:
        for user in range(1, 6):
            client = asyncio.create_task(
                service.overview_of(user, "?include=posts", X_Request_Timeout_Ms="5000")
            )
            connection = await asyncio.wait_for(hanging.arrivals.get(), 2)
            await asyncio.sleep(0.03)
            left_at = perf_counter()
            client.cancel()
            ended_at = await asyncio.wait_for(connection.ended, 2)
            assert ended_at - left_at < _ENDS_WITHIN + NOISE
        assert hanging.open == 0
        assert await service.leaks() == []


async def test_an_upstream_over_tls_answers_on_connections_that_are_reused() -> None:
    async with Upstream(good, server_context()) as posts:
        async with service_above(posts.port) as service:
            for _ in range(5):
                assert (await service.overview()).json["complete"] is True
        assert posts.connections == 1
