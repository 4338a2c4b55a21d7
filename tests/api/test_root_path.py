"""`ROOT_PATH`: behind a proxy that shows the service below a prefix, every path has it."""

import re

import pytest

from tests.api.stream_client import NDJSON, SSE, stream
from tests.in_process import (
    PATH,
    STATUS_404,
    STATUS_500,
    ServiceClient,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

ABSOLUTE = re.compile(r'"(?:href|type|instance)": ?"([^"]*)"')


def paths_of(text: str) -> set[str]:
    return set(ABSOLUTE.findall(text))


@pytest.mark.parametrize(
    "target",
    [
        *(PATH, f"{PATH}?require=posts", f"{PATH}?include=friends", "/v1/users/x/overview"),
        *("/v1/overviews?user_id=7", "/v1/overviews", "/nowhere", "/problems/nothing"),
        *("/problems/timeout", "/docs/nothing"),
    ],
)
async def test_every_path_in_an_answer_has_the_prefix(target: str) -> None:
    upstream = upstream_with(posts=STATUS_500)
    async with running_service(upstream, root_path="/api/v0") as service:
        paths = paths_of((await service.get(target)).text)
    assert paths
    assert all(path.startswith("/api/v0/") for path in paths), paths
    assert not any("/api/v0/api/v0" in path for path in paths)


@pytest.mark.parametrize(("target", "accept"), [(PATH, SSE), ("/v1/overviews?user_id=7", NDJSON)])
async def test_every_path_in_a_stream_has_the_prefix(target: str, accept: str) -> None:
    upstream = upstream_with(posts=STATUS_500, user=STATUS_404)
    async with running_service(upstream, root_path="/api") as service:
        paths = paths_of((await stream(service, target, accept)).text)
    assert "/api/problems/not_found" in paths
    assert all(path.startswith("/api/") for path in paths), paths


async def test_other_methods_and_draining_have_the_prefix() -> None:
    async with running_service(upstream_with(), root_path="/api") as service:
        service.state.draining = True
        for response in (await service.get("/readyz"), await service.post(PATH)):
            assert response.json()["type"].startswith("/api/problems/")


async def test_openapi_says_where_the_service_is() -> None:
    async with running_service(upstream_with(), root_path="/api") as service:
        document = (await service.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/api"}]
    assert PATH.replace("7", "{user_id}") in document["paths"]


async def test_without_a_prefix_paths_are_those_of_the_service(service: ServiceClient) -> None:
    assert paths_of((await service.get("/nowhere")).text) == {"/problems/no_such_route", "/nowhere"}
