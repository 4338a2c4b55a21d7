"""The headers that an upstream gets: deadline, request id, gzip, forwarded ones, no cookies."""

import asyncio

import pytest

from tests.service.replies import delayed, good, gzipped
from tests.service.running import running_service
from tests.service.upstream import Upstream

pytestmark = pytest.mark.anyio


async def test_the_deadline_and_the_request_id_are_sent_upstream() -> None:
    async with running_service() as service:
        response = await service.overview(X_Request_Timeout_Ms="700", X_Request_ID="over-7.a_B")
        assert response.headers["X-Request-ID"] == "over-7.a_B"
        for upstream in service.upstreams.values():
            (attempt,) = upstream.exchanges
            assert attempt.headers["x-request-id"] == "over-7.a_B"
            assert 0 < int(attempt.headers["x-request-timeout-ms"]) <= 700


async def test_time_in_the_queue_shortens_the_deadline_that_is_sent_upstream() -> None:
    replies = {"users": delayed(0.1), "posts": delayed(0.1)}
    async with running_service(replies, fan_out=1) as service:
        await service.overview("?include=user,posts", X_Request_Timeout_Ms="900")
        timeouts = [
            int(exchange.headers["x-request-timeout-ms"])
            for name in ("users", "posts")
            for exchange in service.upstreams[name].exchanges
        ]
        assert abs(timeouts[0] - timeouts[1]) >= 95
        assert min(timeouts) > 0


async def test_client_headers_are_sent_upstream_only_if_they_are_in_forward_headers() -> None:
    headers = {"Authorization": "Bearer mine", "Cookie": "a=b", "Accept_Language": "nb"}
    async with running_service(forward_headers="accept-language") as service:
        await service.overview(**headers)
        for upstream in service.upstreams.values():
            (attempt,) = upstream.exchanges
            assert attempt.headers["accept-language"] == "nb"
            assert not {"authorization", "cookie"} & set(attempt.headers)


async def test_the_bytes_of_a_client_header_are_sent_upstream_as_they_came() -> None:
    async with running_service(forward_headers="x-latin,x-utf,x-any,x-empty") as service:
        reader, writer = await asyncio.open_connection(
            *service.url.removeprefix("http://").split(":")
        )
        writer.write(
            b"GET /v1/users/1/overview HTTP/1.1\r\nHost: service\r\nConnection: close\r\n"
            b"X-Latin: J\xfcrgen\r\nX-UTF: J\xc3\xbcrgen\r\nx-Empty:\r\n"
            b'X-Any: \x80\xff  "a\\ b"\t%C3\xed\xa0\x80\r\n\r\n'
        )
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        for upstream in service.upstreams.values():
            (attempt,) = upstream.exchanges
            sent = {name: text.encode("latin-1") for name, text in attempt.headers.items()}
            assert (sent["x-latin"], sent["x-utf"]) == (b"J\xfcrgen", b"J\xc3\xbcrgen")
            assert sent["x-any"] == b'\x80\xff  "a\\ b"\t%C3\xed\xa0\x80'
            assert sent["x-empty"] == b""


async def test_cookies_of_an_upstream_are_never_sent_back() -> None:
    # By name: cookie jars have rules of their own for addresses.
    async with running_service(host="localhost") as service:
        for _ in range(2):
            assert (await service.overview()).json["complete"] is True
        for upstream in service.upstreams.values():
            assert len(upstream.exchanges) == 2
            assert not any("cookie" in one.headers for one in upstream.exchanges)


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with Upstream(good) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        async with running_service() as service:
            assert (await service.overview()).json["complete"] is True
        assert proxy.connections == 0


async def test_gzip_is_accepted_and_decompressed() -> None:
    async with running_service(dict.fromkeys(("users", "posts", "todos"), gzipped)) as service:
        response = await service.overview()
        assert response.json["complete"] is True
        assert response.json["posts"]["data"][0]["body"] == "Höhe über Null"
        for upstream in service.upstreams.values():
            assert upstream.exchanges[0].headers["accept-encoding"] == "gzip"
