"""What an upstream gets to see of us: the headers of an attempt, and how connections are kept."""

import asyncio
import json

import pytest

from tests.service.replies import after, compressed, good, head, resource, saying
from tests.service.running import running
from tests.service.upstream import Exchange, Upstream

pytestmark = pytest.mark.anyio

_ALL = ("users", "posts", "todos")


async def test_the_remaining_time_and_the_request_id_go_upstream() -> None:
    async with running() as service:
        answer = await service.overview(X_Request_Timeout_Ms="700", X_Request_ID="over-7.a_B")
        assert answer.headers["X-Request-ID"] == "over-7.a_B"
        for upstream in service.upstreams.values():
            (attempt,) = upstream.seen
            assert attempt.headers["x-request-id"] == "over-7.a_B"
            assert 0 < int(attempt.headers["x-request-timeout-ms"]) <= 700


async def test_time_spent_in_a_queue_is_not_promised_upstream() -> None:
    async with running({"users": after(0.1), "posts": after(0.1)}, fan_out=1) as service:
        await service.overview("?include=user,posts", X_Request_Timeout_Ms="900")
        promised = [
            int(one.headers["x-request-timeout-ms"])
            for name in ("users", "posts")
            for one in service.upstreams[name].seen
        ]
        assert abs(promised[0] - promised[1]) >= 95
        assert min(promised) > 0


async def test_what_the_client_sends_stays_with_us_unless_it_is_forwarded() -> None:
    private = {"Authorization": "Bearer mine", "Cookie": "a=b", "Accept_Language": "nb"}
    async with running(forward_headers="accept-language") as service:
        await service.overview(**private)
        for upstream in service.upstreams.values():
            (attempt,) = upstream.seen
            assert attempt.headers["accept-language"] == "nb"
            assert not {"authorization", "cookie"} & set(attempt.headers)


async def test_cookies_of_an_upstream_are_never_sent_back() -> None:
    # By name: cookie jars have rules of their own for addresses.
    async with running(host="localhost") as service:
        for _ in range(2):
            assert (await service.overview()).json["complete"] is True
        for upstream in service.upstreams.values():
            assert len(upstream.seen) == 2
            assert not any("cookie" in one.headers for one in upstream.seen)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with Upstream(good) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with running() as service:
            assert (await service.overview()).json["complete"] is True
        assert proxy.connections == 0


async def test_gzip_is_asked_for_and_understood() -> None:
    async with running(dict.fromkeys(_ALL, compressed)) as service:
        answer = await service.overview()
        assert answer.json["complete"] is True
        assert answer.json["posts"]["data"][0]["body"] == "Höhe über Null"
        for upstream in service.upstreams.values():
            assert upstream.seen[0].headers["accept-encoding"] == "gzip"


async def test_connections_are_used_again() -> None:
    async with running() as service:
        for _ in range(20):
            assert (await service.overview()).json["complete"] is True
        assert [upstream.connections for upstream in service.upstreams.values()] == [1, 1, 1]


async def test_an_error_answer_does_not_cost_its_connection() -> None:
    async with running({"posts": saying(b"{}", "500 Internal Server Error")}) as service:
        for _ in range(5):
            await service.overview("?include=posts")
        assert service.upstreams["posts"].connections == 1
        assert len(service.upstreams["posts"].seen) == 5 * 3


async def test_a_connection_that_was_closed_while_idle_fails_nothing() -> None:
    async with running() as service:
        for _ in range(5):
            assert (await service.overview()).json["complete"] is True
            for upstream in service.upstreams.values():
                upstream.hang_up()


async def test_a_request_is_sent_once_even_where_its_connection_breaks_in_use() -> None:
    async def tired(exchange: Exchange) -> None:
        if exchange.first:
            await good(exchange)
        else:
            exchange.close()

    async with running({"posts": tired}, {"retries": 0}) as service:
        first, second, third = [(await service.overview()).json["posts"] for _ in range(3)]
        assert first["status"] == third["status"] == "ok"
        error = second["error"]
        assert (error["reason"], error["attempts"]) == ("unreachable", 1)
        assert len(service.upstreams["posts"].seen) == 3


async def test_what_comes_unasked_never_becomes_an_answer() -> None:
    poison = json.dumps({**json.loads(resource("/users/1") or b""), "name": "another"}).encode()
    async with running() as service:
        assert (await service.overview()).json["complete"] is True
        for connection in list(service.upstreams["users"].open):
            connection.transport.write(head(content_length=len(poison)) + poison)
        await asyncio.sleep(0.05)  # on its way, while nothing is asked
        answer = await service.overview()
        assert answer.json["user"]["data"]["name"] != "another"
        assert answer.json["complete"] is True
