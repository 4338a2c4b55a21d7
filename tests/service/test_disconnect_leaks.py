"""Clients that disconnect while they wait for a permit or a connection leak neither."""

import asyncio
import contextlib
import random
from urllib.parse import urlsplit

import pytest

from app.upstream.transport import Http1Transport
from tests.service.replies import delayed
from tests.service.running import RunningService, running_service

pytestmark = pytest.mark.anyio

_CLIENTS = 25
_REQUESTS = 15
_POOL = 10

# Slow enough for half a core, which clients, service and upstreams share here, to keep up with the
# load: then clients really wait for a permit or a connection. On a saturated event loop they would
# all disconnect before they get that far.
_LATENCY = (0.1, 0.2)
_MAX_WAIT = 0.4


@pytest.mark.parametrize(
    ("concurrency", "connections"),
    [(_POOL, 3 * _POOL), (64, _POOL)],
    ids=["permits", "connections"],
)
async def test_nothing_leaks_when_clients_disconnect_while_they_wait(
    concurrency: int, connections: int
) -> None:
    names = ("users", "posts", "todos")
    slow = {name: delayed(*_LATENCY, seed) for seed, name in enumerate(names)}
    pool = Http1Transport(connections)
    limits = {"concurrency": concurrency}
    async with running_service(slow, limits, transport=pool, log_level="error") as service:
        chance = random.Random(20)
        clients = (_disconnecting_client(service, chance, 1 + n) for n in range(_CLIENTS))
        await asyncio.gather(*clients)
        assert await service.leaks() == []
        exchanges = [one for upstream in service.upstreams.values() for one in upstream.exchanges]
        cancelled = sum(exchange.disconnected.done() for exchange in exchanges)
        assert min(cancelled, len(exchanges) - cancelled) > _POOL
        assert sum(one.max_in_flight for one in service.upstreams.values()) >= connections
        responses = await asyncio.gather(*(service.overview_of(1 + n) for n in range(_POOL)))
        assert [response.json["complete"] for response in responses] == [True] * _POOL
        assert await service.leaks() == []


async def _disconnecting_client(
    service: RunningService, chance: random.Random, user_id: int
) -> None:
    """Send requests, and disconnect after a random time, whatever has arrived by then."""
    address = urlsplit(service.url)
    for _ in range(_REQUESTS):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /v1/users/%d/overview HTTP/1.1\r\nHost: service\r\n\r\n" % user_id)
        await asyncio.sleep(chance.uniform(0, _MAX_WAIT))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
