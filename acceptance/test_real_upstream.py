"""Overviews of a third-party upstream: JSONPlaceholder's data behind json-server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.processes import LOOPBACK, free_port, running, service

LONG_TIMEOUTS = {
    "REQUEST_TIMEOUT": "8",
    "UPSTREAMS__USERS__ATTEMPT_TIMEOUT": "5",
    "UPSTREAMS__POSTS__ATTEMPT_TIMEOUT": "5",
    "UPSTREAMS__TODOS__ATTEMPT_TIMEOUT": "5",
}


@pytest.fixture(scope="module")
def upstream_url(npm_modules: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [
        str(npm_modules / ".bin" / "json-server"),
        *("--read-only", "--quiet", "--host", LOOPBACK, "--port", str(port)),
        str(npm_modules / "jsonplaceholder" / "data.json"),
    ]
    with running(command, ready=f"{url}/users/1", env={}):
        yield url


@pytest.fixture(scope="module")
def aggregator_url(upstream_url: str) -> Iterator[str]:
    with service(UPSTREAM_URL=upstream_url, **LONG_TIMEOUTS) as url:
        yield url


@pytest.mark.parametrize("user_id", range(1, 11))
def test_an_overview_equals_the_data_of_the_upstream(
    aggregator_url: str, upstream_url: str, user_id: int
) -> None:
    response = httpx.get(f"{aggregator_url}/v1/users/{user_id}/overview", timeout=10.0)

    assert response.status_code == 200
    overview = response.json()
    assert overview["complete"] is True
    assert overview["user"]["data"] == upstream_data(upstream_url, f"/users/{user_id}")
    assert overview["posts"]["data"] == upstream_data(upstream_url, f"/posts?userId={user_id}")
    assert overview["todos"]["data"] == upstream_data(upstream_url, f"/todos?userId={user_id}")


def test_a_user_unknown_to_the_upstream_gives_a_404_problem(aggregator_url: str) -> None:
    response = httpx.get(f"{aggregator_url}/v1/users/999/overview", timeout=10.0)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 404


def upstream_data(upstream_url: str, path: str) -> Any:
    response = httpx.get(upstream_url + path, timeout=10.0)
    assert response.status_code == 200
    data = response.json()
    assert data, "the upstream itself must have data"
    return data
