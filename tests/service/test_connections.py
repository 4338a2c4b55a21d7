"""The bound on client connections: nobody is refused for those who do nothing."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.service.replies import never
from tests.service.running import RunningService, eventually, running_service

pytestmark = pytest.mark.anyio

LIMIT = 20
HALF_A_HEAD = b"GET /livez HTTP/1.1\r\nHost: service\r\n"
HALF_A_BODY = b"GET /livez HTTP/1.1\r\nHost: service\r\nContent-Length: 100\r\n\r\nx"


@asynccontextmanager
async def clients(service: RunningService, count: int, data: bytes) -> AsyncIterator[list[bool]]:
    """So many connections on which `data` is sent, and then nothing. Which of them have ended."""
    address = urlsplit(service.url)
    ended = [False] * count
    writers: list[asyncio.StreamWriter] = []

    async def watch(reader: asyncio.StreamReader, number: int) -> None:
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass
        ended[number] = True

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(data)
            writers.append(writer)
            tasks.create_task(watch(reader, number))
        try:
            yield ended
        finally:
            for writer in writers:
                writer.close()


@pytest.mark.parametrize("data", [b"", HALF_A_HEAD, HALF_A_BODY], ids=["idle", "head", "body"])
async def test_connections_without_a_whole_request_make_room_for_new_clients(data: bytes) -> None:
    async with (
        running_service(connections=LIMIT) as service,
        clients(service, 3 * LIMIT, data) as ended,
    ):
        assert await eventually(lambda: sum(ended) >= 2 * LIMIT)
        assert [(await service.overview()).status for _ in range(20)] == [200] * 20
        assert sum(ended) <= 2 * LIMIT + 1  # the good client has taken one more
        assert not ended[-1]  # it is the longest idle one that goes


async def test_a_client_that_waits_for_its_answer_keeps_its_connection() -> None:
    async with running_service({"posts": never}, connections=LIMIT) as service:
        waiting = asyncio.create_task(service.overview())
        assert await eventually(lambda: bool(service.upstreams["posts"].in_flight))
        async with clients(service, 3 * LIMIT, b""):
            assert (await waiting).status == 200


async def test_a_new_client_is_overloaded_when_all_connections_wait_for_answers() -> None:
    async with running_service({"posts": never}, connections=16) as service:
        request = b"GET /v1/users/%d/overview?include=posts HTTP/1.1\r\nHost: a\r\n\r\n" % 1
        async with clients(service, 16, request):
            assert await eventually(lambda: bool(service.upstreams["posts"].in_flight))
            response = await service.overview()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert response.json["type"].endswith("/overloaded")
        assert (await service.overview("?include=user")).status == 200


async def test_connections_that_are_reset_are_forgotten_at_once() -> None:
    async with running_service(connections=LIMIT) as service:
        address = urlsplit(service.url)
        for _ in range(5 * LIMIT):
            with socket.create_connection((address.hostname, address.port)) as client:
                client.sendall(HALF_A_HEAD)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert (await service.overview()).status == 200
        assert await service.leaks() == []
