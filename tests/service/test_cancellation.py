"""Clients that leave at any moment, many more than there are places, cost the service nothing."""

import asyncio
import contextlib
import random
from urllib.parse import urlsplit

import pytest

from app.upstream.transport import AiohttpTransport
from tests.service.replies import after
from tests.service.running import Running, running

pytestmark = pytest.mark.anyio

_CLIENTS = 25
_TIMES = 15
_POOL = 10

# So slow that half a core, which here is clients, service and upstreams in one, keeps up with the
# storm: then it is for a place that everybody waits. A saturated loop would cancel all of them
# before they get as far as that.
_LATENCY = (0.1, 0.2)
_PATIENCE = 0.4


@pytest.mark.parametrize(
    ("concurrency", "connections"),
    [(_POOL, 3 * _POOL), (64, _POOL)],
    ids=["for a permit", "for a connection"],
)
async def test_no_place_is_lost_to_clients_that_leave_while_they_wait(
    concurrency: int, connections: int
) -> None:
    slow = {name: after(*_LATENCY, seed) for seed, name in enumerate(("users", "posts", "todos"))}
    pool = AiohttpTransport(connections)
    limits = {"concurrency": concurrency}
    async with running(slow, limits, transport=pool, log_level="error") as service:
        chance = random.Random(20)
        await asyncio.gather(*(_impatient(service, chance, 1 + n) for n in range(_CLIENTS)))
        assert await service.leftovers() == []
        seen = [exchange for upstream in service.upstreams.values() for exchange in upstream.seen]
        broken_off = sum(exchange.gone.done() for exchange in seen)
        assert min(broken_off, len(seen) - broken_off) > _POOL
        assert sum(one.most_in_flight for one in service.upstreams.values()) >= connections
        answers = await asyncio.gather(*(service.overview_of(1 + n) for n in range(_POOL)))
        assert [answer.json["complete"] for answer in answers] == [True] * _POOL
        assert await service.leftovers() == []


async def _impatient(service: Running, chance: random.Random, user_id: int) -> None:
    """Ask again and again, and hang up after a random time, whatever has come by then."""
    address = urlsplit(service.url)
    for _ in range(_TIMES):
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /v1/users/%d/overview HTTP/1.1\r\nHost: service\r\n\r\n" % user_id)
        await asyncio.sleep(chance.uniform(0, _PATIENCE))
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
