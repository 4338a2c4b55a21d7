"""Every error is a problem (RFC 9457), and every type of problem is explained."""

import json
import re
from pathlib import Path
from typing import get_args

import httpx
import pytest

import app
from app.errors import Failure, Reason
from app.problems.responses import Problem
from app.problems.types import ProblemType
from tests.in_process import PATH, ServiceClient, body_of

pytestmark = pytest.mark.anyio

SLUGS = [
    *get_args(Reason),
    *("invalid_request", "malformed_request", "head_too_large", "no_such_route"),
    *("method_not_allowed", "draining", "internal_error"),
]


def a_problem(response: httpx.Response, slug: str) -> Problem:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem = Problem(**body_of(response, Problem))
    assert (problem.type, problem.status) == (f"/problems/{slug}", response.status_code)
    return problem


@pytest.mark.parametrize("slug", SLUGS)
async def test_every_problem_type_is_explained(service: ServiceClient, slug: str) -> None:
    response = await service.get(f"/problems/{slug}")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    problem_type = body_of(response, ProblemType)
    assert problem_type["type"] == f"/problems/{slug}"
    assert all(problem_type[member] for member in ("title", "meaning", "what_to_do"))


@pytest.mark.parametrize("failure", Failure.__subclasses__(), ids=lambda failure: failure.reason)
async def test_a_failure_has_the_title_and_status_of_its_problem_type(
    service: ServiceClient, failure: type[Failure]
) -> None:
    problem_type = (await service.get(f"/problems/{failure.reason}")).json()
    assert (problem_type["title"], problem_type["status"]) == (failure.title, failure.status)


def test_there_is_a_failure_for_every_reason() -> None:
    assert {failure.reason for failure in Failure.__subclasses__()} == set(get_args(Reason))


async def test_every_problem_type_in_the_openapi_is_explained(service: ServiceClient) -> None:
    document = (await service.get("/openapi.json")).text
    slugs = set(re.findall(r"/problems/(\w+)", document))
    assert {"timeout", "not_found", "invalid_request"} <= slugs
    for slug in slugs:
        assert (await service.get(f"/problems/{slug}")).status_code == 200


async def test_every_problem_type_in_the_code_is_explained(service: ServiceClient) -> None:
    """Each call of `problem("…")` has a slug that is explained."""
    sources = Path(app.__file__).parent.rglob("*.py")
    slugs = {
        slug
        for source in sources
        for slug in re.findall(r'\bproblem\(\s*"(\w+)"', source.read_text())
    }
    assert "internal_error" in slugs
    for slug in slugs:
        assert (await service.get(f"/problems/{slug}")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/nowhere", "/v1", "/v1/users/1", f"{PATH}/", "/v1/users//overview", "/problems"),
        *("/docs/x", "/docs/%00", "/docs/..%2f..%2fmain.py", "/openapi.json/", "/LIVEZ"),
    ],
)
async def test_an_unknown_path_is_a_404_problem(service: ServiceClient, path: str) -> None:
    response = await service.get(path)
    assert response.status_code == 404
    problem = a_problem(response, "no_such_route")
    assert problem.instance is not None
    assert problem.instance.startswith("/")


async def test_an_unknown_problem_type_lists_the_known_ones(service: ServiceClient) -> None:
    response = await service.get("/problems/nonsense")
    assert response.status_code == 404
    assert all(slug in a_problem(response, "no_such_route").detail for slug in SLUGS)


every_kind_of_path = pytest.mark.parametrize(
    "path",
    [
        PATH,
        "/livez",
        "/readyz",
        "/problems/timeout",
        "/",
        "/docs",
        "/docs/docs.js",
        "/openapi.json",
    ],
)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@every_kind_of_path
async def test_a_wrong_method_is_a_405_with_allow(
    service: ServiceClient, method: str, path: str
) -> None:
    response = await service.request(method, path)
    assert response.status_code == 405
    a_problem(response, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@every_kind_of_path
async def test_options_are_the_methods_of_the_path(service: ServiceClient, path: str) -> None:
    response = await service.options(path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize("path", ["/nowhere", "/v1/users/7", "/livez/"])
async def test_there_are_no_options_where_nothing_is(service: ServiceClient, path: str) -> None:
    assert (await service.options(path)).status_code == 404


@pytest.mark.parametrize("host", ["[", "a b", "a/b?c#d", "@"])
async def test_a_malformed_host_header_does_not_change_the_problem(
    service: ServiceClient, host: str
) -> None:
    response = await service.get("/nowhere", headers={"Host": host})
    assert a_problem(response, "no_such_route").instance == "/nowhere"


async def test_a_problem_escapes_any_text_in_its_path(service: ServiceClient) -> None:
    response = await service.get('/"}\\%0A%C3%A5%F0%9F%98%80')
    assert response.status_code == 404
    assert "\n" not in response.text
    json.loads(response.content)
