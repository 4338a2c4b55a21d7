"""The methods of the documented routes: GET, HEAD and OPTIONS, and no others."""

import httpx
import pytest

EXAMPLES = {"user_id": 1, "slug": "timeout"}


@pytest.fixture
def paths(service_url: str) -> list[str]:
    """Every path of the OpenAPI, with its parameters filled in."""
    document = httpx.get(f"{service_url}/openapi.json").json()
    assert all(list(item) == ["get"] for item in document["paths"].values()), "only GET, so far"
    return [service_url + path.format(**EXAMPLES) for path in document["paths"]]


def test_head_gives_the_status_and_headers_of_get_without_a_body(paths: list[str]) -> None:
    for path in paths:
        get, head = httpx.get(path), httpx.head(path)

        assert head.status_code == get.status_code, path
        assert head.headers["content-type"] == get.headers["content-type"], path
        assert set(head.headers) == set(get.headers), path
        assert head.content == b"", path


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_any_other_method_gives_a_405_problem_with_an_allow_header(
    paths: list[str], method: str
) -> None:
    for path in paths:
        refused = httpx.request(method, path)

        assert refused.status_code == 405, path
        assert refused.headers["content-type"] == "application/problem+json", path
        assert refused.json()["status"] == 405, path
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS", path


def test_options_are_the_methods_that_are_allowed(paths: list[str]) -> None:
    for path in paths:
        options = httpx.options(path)

        assert (options.status_code, options.content) == (204, b""), path
        assert options.headers["allow"] == "GET, HEAD, OPTIONS", path
