"""`ROOT_PATH` over a socket: a proxy may leave its prefix in the request or take it off."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from tests.service.running import running_service

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("prefix", ["/api/v0", ""], ids=["left", "taken off"])
async def test_a_request_is_answered_with_and_without_the_prefix(prefix: str) -> None:
    async with running_service(root_path="/api/v0") as service:
        overview = await service.get(f"{prefix}/v1/users/1/overview")
        missing = await service.get(f"{prefix}/nowhere")
        page = await service.get(f"{prefix}/")
    assert overview.json["complete"] is True
    assert (missing.status, missing.json["instance"]) == (404, "/api/v0/nowhere")
    assert missing.json["type"] == "/api/v0/problems/no_such_route"
    assert page.status == 200


@pytest.mark.parametrize("path", ["/api/v0x/v1/users/1/overview", "/api/v1/users/1/overview"])
async def test_what_only_begins_like_the_prefix_is_another_path(path: str) -> None:
    async with running_service(root_path="/api/v0") as service:
        assert (await service.get(path)).status == 404


async def test_what_is_refused_below_the_application_has_the_prefix() -> None:
    async with running_service(root_path="/api") as service:
        address = urlsplit(service.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"this is not HTTP\r\n\r\n")
        _, _, body = (await asyncio.wait_for(reader.read(), 2)).partition(b"\r\n\r\n")
        writer.close()
    assert json.loads(body)["type"] == "/api/problems/malformed_request"
