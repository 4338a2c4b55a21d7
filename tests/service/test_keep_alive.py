"""Keep-alive connections to an upstream: reused, replaced when closed, and not trusted blindly."""

import asyncio
import json
from time import perf_counter

import pytest

from app.upstream.http1 import pool
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
        for user in range(1, 6):
            await service.overview_of(user, "?include=posts")
        assert service.upstreams["posts"].connections == 1
        assert len(service.upstreams["posts"].exchanges) == 5 * 3


async def test_a_keep_alive_connection_closed_while_idle_fails_no_request() -> None:
    async with running_service() as service:
        for _ in range(5):
            assert (await service.overview()).json["complete"] is True
            for upstream in service.upstreams.values():
                upstream.close_connections()


async def test_a_request_is_sent_once_more_when_its_keep_alive_connection_had_ended() -> None:
    """Servers close idle connections without saying so: nobody's fault, and no retry."""

    async def closing_on_reuse(exchange: Exchange) -> None:
        if exchange.first:
            await good(exchange)
        else:
            exchange.close()

    each = {"retries": 0}
    async with running_service({"posts": closing_on_reuse}, each, explain="on") as service:
        responses = [(await service.overview("?explain=true")).json for _ in range(20)]
        assert all(response["complete"] for response in responses)
        kinds = [[s["kind"] for s in r["timeline"] if s["section"] == "posts"] for r in responses]
        assert kinds[0] == ["attempt"]
        assert {"attempt", "reconnect"} in map(set, kinds)
        assert service.state.upstreams["posts"].budget.balance == 10
        # Each was on a connection of its own in the end; those before ended at once.
        assert len(service.upstreams["posts"].exchanges) <= 20 * 2


@pytest.mark.parametrize("sent", [b"H", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_a_request_is_not_sent_again_when_its_keep_alive_connection_ends_after_a_byte(
    sent: bytes,
) -> None:
    async def breaking_on_reuse(exchange: Exchange) -> None:
        if exchange.first:
            await good(exchange)
        else:
            await exchange.send(sent)
            exchange.close()

    async with running_service({"posts": breaking_on_reuse}, {"retries": 0}) as service:
        first, second, third = [(await service.overview()).json["posts"] for _ in range(3)]
        assert first["status"] == third["status"] == "ok"
        error = second["error"]
        assert (error["reason"], error["attempts"]) == ("unreachable", 1)
        assert len(service.upstreams["posts"].exchanges) == 3


async def test_a_request_is_not_sent_again_when_its_new_connection_ends_before_a_byte() -> None:
    async def closing(exchange: Exchange) -> None:
        exchange.close()

    async with running_service({"posts": closing}, {"retries": 0}) as service:
        error = (await service.overview()).json["posts"]["error"]
        assert (error["reason"], error["attempts"]) == ("unreachable", 1)
        assert len(service.upstreams["posts"].exchanges) == 1


async def test_a_keep_alive_connection_has_a_greatest_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MAX_AGE", 0.3)
    async with running_service() as service:
        began = perf_counter()
        while perf_counter() - began < 1.0:
            assert (await service.overview()).json["complete"] is True
        assert all(3 <= one.connections <= 8 for one in service.upstreams.values())


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
