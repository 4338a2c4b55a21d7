"""Every error is a problem, and every problem is explained."""

import json
import re
from pathlib import Path
from typing import get_args

import httpx
import pytest

import app
from app.errors import Failure, Reason
from app.problems.handlers import ProblemType
from app.problems.responses import Problem
from tests.in_process import PATH, Running, body_of

pytestmark = pytest.mark.anyio

EXPLAINED = [
    *get_args(Reason),
    *("invalid_request", "no_such_route", "method_not_allowed", "internal_error"),
]


def a_problem(response: httpx.Response, slug: str) -> Problem:
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem = Problem(**body_of(response, Problem))
    assert (problem.type, problem.status) == (f"/problems/{slug}", response.status_code)
    return problem


@pytest.mark.parametrize("slug", EXPLAINED)
async def test_every_problem_is_explained(service: Running, slug: str) -> None:
    response = await service.get(f"/problems/{slug}")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    kind = body_of(response, ProblemType)
    assert kind["type"] == f"/problems/{slug}"
    assert all(kind[member] for member in ("title", "meaning", "what_to_do"))


@pytest.mark.parametrize("failure", Failure.__subclasses__(), ids=lambda one: one.reason)
async def test_a_failure_is_explained_as_it_is_told(
    service: Running, failure: type[Failure]
) -> None:
    kind = (await service.get(f"/problems/{failure.reason}")).json()
    assert (kind["title"], kind["status"]) == (failure.title, failure.status)


def test_there_is_a_failure_for_every_reason() -> None:
    assert {failure.reason for failure in Failure.__subclasses__()} == set(get_args(Reason))


async def test_whatever_the_documentation_points_at_is_there(service: Running) -> None:
    document = (await service.get("/openapi.json")).text
    found = set(re.findall(r"/problems/(\w+)", document))
    assert {"timeout", "not_found", "invalid_request"} <= found
    for slug in found:
        assert (await service.get(f"/problems/{slug}")).status_code == 200


async def test_what_the_code_names_is_explained(service: Running) -> None:
    """No call of `problem("…")` may point at nothing."""
    sources = Path(app.__file__).parent.rglob("*.py")
    named = {
        slug
        for source in sources
        for slug in re.findall(r'\bproblem\(\s*"(\w+)"', source.read_text())
    }
    assert "internal_error" in named
    for slug in named:
        assert (await service.get(f"/problems/{slug}")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/nowhere", "/v1", "/v1/users/1", f"{PATH}/", "/v1/users//overview", "/problems"),
        *("/docs/x", "/docs/%00", "/docs/..%2f..%2fmain.py", "/openapi.json/", "/LIVEZ"),
    ],
)
async def test_an_unknown_path_is_a_problem(service: Running, path: str) -> None:
    response = await service.get(path)
    assert response.status_code == 404
    problem = a_problem(response, "no_such_route")
    assert problem.instance is not None
    assert problem.instance.startswith("/")


async def test_an_unknown_problem_is_told_which_there_are(service: Running) -> None:
    response = await service.get("/problems/nonsense")
    assert response.status_code == 404
    assert all(slug in a_problem(response, "no_such_route").detail for slug in EXPLAINED)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize(
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
async def test_a_wrong_method_is_told_the_right_ones(
    service: Running, method: str, path: str
) -> None:
    response = await service.request(method, path)
    assert response.status_code == 405
    a_problem(response, "method_not_allowed")
    assert sorted(response.headers["allow"].split(", ")) == ["GET", "HEAD"]


@pytest.mark.parametrize("host", ["[", "a b", "a/b?c#d", "@"])
async def test_a_strange_host_makes_no_difference(service: Running, host: str) -> None:
    response = await service.get("/nowhere", headers={"Host": host})
    assert a_problem(response, "no_such_route").instance == "/nowhere"


async def test_a_problem_may_have_any_text_in_its_path(service: Running) -> None:
    response = await service.get('/"}\\%0A%C3%A5%F0%9F%98%80')
    assert response.status_code == 404
    assert "\n" not in response.text
    json.loads(response.content)
