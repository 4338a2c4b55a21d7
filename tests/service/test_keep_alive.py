"""Keep-alive connections to an upstream: reused, replaced when closed, and not trusted blindly."""

import asyncio
import json

import pytest

from tests.service.replies import good, head, resource, respond_with
from tests.service.running import running_service
from tests.service.upstream import Exchange

pytestmark = pytest.mark.anyio


async def test_keep_alive_connections_are_reused() -> None:
    async with running_service() as service:
        for _ in range(20):
            assert (await service.overview()).json["complete"] is True
        assert [upstream.connections for upstream in service.upstreams.values()] == [1, 1, 1]


async def test_a_keep_alive_connection_is_reused_after_a_500() -> None:
    async with running_service(
        {"posts": respond_with(b"{}", "500 Internal Server Error")}
    ) as service:
        for _ in range(5):
            await service.overview("?include=posts")
        assert service.upstreams["posts"].connections == 1
        assert len(service.upstreams["posts"].exchanges) == 5 * 3


async def test_a_keep_alive_connection_closed_while_idle_fails_no_request() -> None:
    async with running_service() as service:
        for _ in range(5):
            assert (await service.overview()).json["complete"] is True
            for upstream in service.upstreams.values():
                upstream.close_connections()


async def test_a_request_is_not_repeated_when_its_keep_alive_connection_breaks() -> None:
    async def closing_on_reuse(exchange: Exchange) -> None:
        if exchange.first:
            await good(exchange)
        else:
            exchange.close()

    async with running_service({"posts": closing_on_reuse}, {"retries": 0}) as service:
        first, second, third = [(await service.overview()).json["posts"] for _ in range(3)]
        assert first["status"] == third["status"] == "ok"
        error = second["error"]
        assert (error["reason"], error["attempts"]) == ("unreachable", 1)
        assert len(service.upstreams["posts"].exchanges) == 3


async def test_an_unsolicited_response_on_a_keep_alive_connection_is_never_used() -> None:
    forged = json.dumps({**json.loads(resource("/users/1") or b""), "name": "another"}).encode()
    async with running_service() as service:
        assert (await service.overview()).json["complete"] is True
        for connection in list(service.upstreams["users"].open):
            connection.transport.write(head(content_length=len(forged)) + forged)
        await asyncio.sleep(0.05)  # until it has arrived, while no request is in flight
        response = await service.overview()
        assert response.json["user"]["data"]["name"] != "another"
        assert response.json["complete"] is True
