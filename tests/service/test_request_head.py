"""What a client may send as the head of a request, byte by byte over a socket."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.service.replies import good
from tests.service.running import RunningService, running_service

pytestmark = pytest.mark.anyio

OVERVIEW = b"GET /v1/users/1/overview HTTP/1.1\r\n"
HOST = b"Host: service\r\n"


async def exchange(service: RunningService, *sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and body of the first response; the parts are sent one after another."""
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-l")]
        body = await asyncio.wait_for(
            reader.readexactly(int(length[0].split(b":")[1])) if length else reader.read(), 2
        )
        return int(head.split(b" ")[1]), head, body
    finally:
        writer.close()


def problem(body: bytes) -> dict[str, Any]:
    parsed = json.loads(body)
    assert isinstance(parsed, dict)
    return parsed


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        HOST + HOST,
        b"Host: a\r\nhost: b\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: a@b\r\n",
        b"Host: a:b\r\n",
        b"Host: [::1\r\n",
        b"Host: a?b\r\n",
        b"Host: \xc3\xa5.example\r\n",
    ],
)
async def test_a_request_without_one_valid_host_is_a_400(hosts: bytes) -> None:
    async with running_service() as service:
        status, head, body = await exchange(service, OVERVIEW + hosts + b"\r\n")
        assert service.upstreams["users"].exchanges == []
    assert (status, problem(body)["type"]) == (400, "/problems/malformed_request")
    assert "Host" in problem(body)["detail"]
    assert b"connection: close" in head
    assert b"x-request-id: " in head


@pytest.mark.parametrize(
    "host", [b"a", b"a.example:8000", b"127.0.0.1:80", b"[::1]:8000", b"a_b.c-d", b"a:", b""]
)
async def test_a_request_with_one_valid_host_is_answered(host: bytes) -> None:
    async with running_service() as service:
        status, _, _ = await exchange(service, OVERVIEW + b"Host: " + host + b"\r\n\r\n")
    assert status == 200


@pytest.mark.parametrize("host", [b"", HOST])
async def test_http_1_0_needs_no_host_and_gets_no_chunks(host: bytes) -> None:
    request = b"GET /v1/users/1/overview HTTP/1.0\r\n" + host
    for accept in (b"", b"Accept: text/event-stream\r\n", b"Accept-Encoding: gzip\r\n"):
        async with running_service() as service:
            status, head, body = await exchange(service, request + accept + b"\r\n")
        assert status == 200
        assert b"transfer-encoding" not in head
        assert problem(body)["complete"] is True


async def test_a_batch_as_lines_is_json_over_http_1_0() -> None:
    request = b"GET /v1/overviews?user_id=1 HTTP/1.0\r\nAccept: application/x-ndjson\r\n\r\n"
    async with running_service() as service:
        _, head, body = await exchange(service, request)
    assert b"content-length: " in head
    assert problem(body)["items"][0]["status"] == "ok"


@pytest.mark.parametrize(
    "version", [b"HTTP/2.0", b"HTTP/3.0", b"HTTP/0.9", b"HTTP/9.9", b"HTTP/11.1"]
)
async def test_another_major_version_is_a_505(version: bytes) -> None:
    async with running_service() as service:
        status, _, body = await exchange(
            service, b"GET /livez " + version + b"\r\n" + HOST + b"\r\n"
        )
    assert (status, problem(body)["status"]) == (505, 505)
    assert problem(body)["type"] == "/problems/unsupported_version"


@pytest.mark.parametrize("name", [b"Authorization", b"X-Request-Timeout-Ms"])
async def test_a_header_of_ours_that_comes_twice_is_a_400_that_names_it(name: bytes) -> None:
    twice = name + b": 100\r\n" + name.lower() + b": 100\r\n"
    async with running_service() as service:
        status, _, body = await exchange(service, OVERVIEW + HOST + twice + b"\r\n")
    assert (status, name.decode() in problem(body)["detail"]) == (400, True)


async def test_headers_of_others_may_come_twice() -> None:
    async with running_service() as service:
        twice = b"X-Other: 1\r\nX-Other: 2\r\nAccept: a/b\r\nAccept: */*\r\n"
        status, _, _ = await exchange(service, OVERVIEW + HOST + twice + b"\r\n")
    assert status == 200


@pytest.mark.parametrize("split", [False, True], ids=["one read", "several"])
async def test_a_large_body_is_no_part_of_the_head(split: bool) -> None:
    body = b"x" * 100_000
    head = OVERVIEW + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    sent = [head[:-2], head[-2:] + body] if split else [head + body]
    async with running_service() as service:
        status, _, _ = await exchange(service, *sent)
    assert status == 200


@pytest.mark.parametrize(("fields", "status"), [(255, 200), (256, 431)])
async def test_the_number_of_headers_is_bounded(fields: int, status: int) -> None:
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(fields))
    async with running_service() as service:
        answered, _, _ = await exchange(service, OVERVIEW + HOST + many + b"\r\n")
    assert answered == status


@pytest.mark.parametrize("slash", [b"%2f", b"%2F"])
async def test_an_encoded_slash_is_no_slash_of_ours(slash: bytes) -> None:
    target = b"/v1/users/1" + slash + b"overview"
    async with running_service() as service:
        status, _, body = await exchange(
            service, b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        )
        encoded, _, _ = await exchange(
            service, b"GET /v1/users/1/overview?include=user%2Cposts HTTP/1.1\r\n" + HOST + b"\r\n"
        )
    assert (status, problem(body)["instance"]) == (404, target.decode())
    assert encoded == 200


@pytest.mark.parametrize(
    "offer",
    [
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    ],
)
async def test_an_offer_to_upgrade_is_answered_without_a_word_in_the_log(
    offer: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service({"posts": good}, log_format="json") as service:
        status, head, _ = await exchange(service, OVERVIEW + HOST + offer + b"\r\n")
    assert (status, b"connection: close" in head) == (200, True)
    assert "pgrade" not in capsys.readouterr().out
