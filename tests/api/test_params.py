"""The parameters of an overview: `user_id`, `include`, `require` and the request timeout."""

import httpx
import pytest
import respx

from app.problems.responses import InvalidRequest
from tests.in_process import MODELS, POST, SECTIONS, TODO, USER, ServiceClient, body_of

pytestmark = pytest.mark.anyio


async def test_include_is_every_section_by_default(service: ServiceClient) -> None:
    response = await service.overview()
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    body = body_of(response, MODELS.answer)
    assert (body["user_id"], body["complete"]) == (7, True)
    assert body["user"]["data"] == USER | dict.fromkeys(["address", "phone", "website", "company"])
    assert body["posts"]["data"] == [POST, POST]
    assert body["todos"]["data"] == [TODO]


@pytest.mark.parametrize(
    ("query", "included"),
    [
        ("include=posts", ["posts"]),
        ("include=posts,todos", ["posts", "todos"]),
        ("include=posts&include=todos", ["posts", "todos"]),
        ("include=posts%2Ctodos", ["posts", "todos"]),
        ("include=todos,posts&include=user", ["user", "posts", "todos"]),
        ("include=posts,posts&include=posts", ["posts"]),
        ("require=posts", ["user", "posts", "todos"]),
        ("include=user,posts&require=posts&require=user", ["user", "posts"]),
        ("include=user,posts&require=posts,user", ["user", "posts"]),
    ],
)
async def test_a_section_that_is_not_included_is_skipped_without_an_upstream_request(
    service: ServiceClient, upstream: respx.MockRouter, query: str, included: list[str]
) -> None:
    body = body_of(await service.overview(f"?{query}"), MODELS.answer)
    assert list(body) == ["user_id", "complete", *SECTIONS]
    assert body["complete"] is True
    for name in SECTIONS:
        assert body[name]["status"] == ("ok" if name in included else "skipped")
        assert upstream[name].call_count == (name in included)


@pytest.mark.parametrize("parameter", ["include", "require"])
@pytest.mark.parametrize(
    "value", ["", "friends", "posts,", ",posts", "posts,friends", "Posts", " posts", "posts;user"]
)
async def test_an_unknown_section_is_a_422_that_names_the_parameter(
    service: ServiceClient, upstream: respx.MockRouter, parameter: str, value: str
) -> None:
    response = await service.get("/v1/users/7/overview", params={parameter: value})
    assert invalid_parameters(response) == [("query", parameter)]
    assert not upstream.calls


async def test_a_required_section_that_is_not_included_is_a_422(service: ServiceClient) -> None:
    response = await service.overview("?include=posts,todos&require=posts,user")
    assert invalid_parameters(response) == [("query", "require")]
    assert "user is required but not included" in response.json()["detail"]


@pytest.mark.parametrize(
    "user_id",
    [
        *(
            "0",
            "-1",
            "1.0",
            "1_0",
            "+1",
            "01",
            "1e3",
            "%201",
            "x",
            "0x1",
            "%D9%A1",
            "%C2%B2",
            "true",
        ),
        *(str(2**53), "9" * 30, "9" * 5000),
    ],
)
async def test_an_invalid_user_id_is_a_422(
    service: ServiceClient, upstream: respx.MockRouter, user_id: str
) -> None:
    response = await service.get(f"/v1/users/{user_id}/overview")
    assert invalid_parameters(response) == [("path", "user_id")]
    assert not upstream.calls


async def test_the_highest_user_id_is_the_max_safe_integer_of_javascript(
    service: ServiceClient, upstream: respx.MockRouter
) -> None:
    upstream.get(url__regex=str(2**53 - 1)).respond(json=[])
    response = await service.get(f"/v1/users/{2**53 - 1}/overview?include=posts")
    assert body_of(response, MODELS.answer)["user_id"] == 2**53 - 1


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "+800", "8_00", "soon", "", "800ms", "1e3"])
async def test_an_invalid_request_timeout_is_a_422(service: ServiceClient, value: str) -> None:
    response = await service.overview(X_Request_Timeout_Ms=value)
    ((location, name),) = invalid_parameters(response)
    assert (location, name.lower()) == ("header", "x-request-timeout-ms")


async def test_a_422_names_every_invalid_parameter(service: ServiceClient) -> None:
    response = await service.get("/v1/users/0/overview?include=friends&require=")
    assert set(invalid_parameters(response)) == {
        ("path", "user_id"),
        ("query", "include"),
        ("query", "require"),
    }


def invalid_parameters(response: httpx.Response) -> list[tuple[str, str]]:
    """Location and name of each parameter that the 422 names."""
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = body_of(response, InvalidRequest)
    assert (problem["type"], problem["status"]) == ("/problems/invalid_request", 422)
    assert problem["instance"].startswith("/v1/users/")
    assert all(error["parameter"] in problem["detail"] for error in problem["errors"])
    return [(error["location"], error["parameter"]) for error in problem["errors"]]
