"""Unknown parameters are refused with the nearest known one; lists have several spellings."""

import random
import string

import pytest
import respx

from app.problems.responses import InvalidRequest
from tests.api.simulated_upstreams import SimulatedUpstreams
from tests.in_process import MODELS, PATH, ServiceClient, body_of, running_service

pytestmark = pytest.mark.anyio

KNOWN = {
    PATH: ["explain", "include", "require", "timeout_ms"],
    "/v1/overviews": ["include", "require", "timeout_ms", "user_id"],
}
EVERY = pytest.mark.parametrize("path", KNOWN)


def target(path: str, query: str) -> str:
    return f"{path}?user_id=7&{query}" if path == "/v1/overviews" else f"{path}?{query}"


@EVERY
@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [
        ("includ=posts", "include"),
        ("Include=posts", "include"),
        ("includes=posts", "include"),
        ("inlcude=posts", "include"),
        ("required=user", "require"),
        ("timeout=800", "timeout_ms"),
        ("timeoutMs=800", "timeout_ms"),
        ("include%20=posts", "include"),
        ("includ", "include"),
        ("includ=", "include"),
    ],
)
async def test_a_misspelt_parameter_is_a_422_with_the_nearest_name(
    service: ServiceClient, upstream: respx.MockRouter, path: str, misspelt: str, nearest: str
) -> None:
    response = await service.get(target(path, misspelt))
    assert response.status_code == 422
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert error["location"] == "query"
    assert f"the nearest is {nearest}," in error["detail"]
    assert not upstream.calls


@EVERY
async def test_200_random_parameters_are_all_refused(service: ServiceClient, path: str) -> None:
    chance = random.Random(7)
    for _ in range(200):
        name = "".join(chance.choices(string.ascii_letters + string.digits + "_-.", k=5))
        response = await service.get(target(path, f"{name}={chance.random()}"))
        (error,) = body_of(response, InvalidRequest)["errors"]
        assert (response.status_code, error["parameter"]) == (422, name)
        assert all(known in error["detail"] for known in KNOWN[path])


async def test_many_and_long_unknown_names_are_refused_in_a_few_words(
    service: ServiceClient,
) -> None:
    query = "&".join(f"{'x' * 300}{number}=1" for number in range(100))
    response = await service.overview(f"?{query}")
    errors = body_of(response, InvalidRequest)["errors"]
    assert (response.status_code, len(response.content) < 2000) == (422, True)
    assert all(len(error["parameter"]) == 64 for error in errors)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/"])
async def test_probes_and_pages_do_not_mind(service: ServiceClient, path: str) -> None:
    assert (await service.get(f"{path}?cache=1")).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "user_id=1&user_id=2&user_id=3",
        "user_id=1,2,3",
        "user_id=1%2C2,3",
        "user_id=1,2&user_id=3",
        "user_id[]=1&user_id[]=2&user_id[]=3",
        "user_id%5B%5D=1&user_id%5b%5d=2,3",
        "user_id=1&user_id[]=2&user_id%5B%5D=3",
    ],
)
async def test_users_are_listed_in_any_of_the_usual_ways(query: str) -> None:
    async with running_service(SimulatedUpstreams().router) as service:
        batch = body_of(await service.get(f"/v1/overviews?{query}"), MODELS.batch)
    assert [item["user_id"] for item in batch["items"]] == [1, 2, 3]


@pytest.mark.parametrize("query", ["include[]=user&include[]=posts", "include%5B%5D=user,posts"])
async def test_sections_are_listed_in_any_of_the_usual_ways(
    service: ServiceClient, query: str
) -> None:
    for _ in range(2):  # the second time from the route cache, if it is there
        overview = body_of(await service.overview(f"?{query}"), MODELS.answer)
        assert overview["todos"] == {"status": "skipped"}
        assert overview["posts"]["status"] == "ok"


async def test_timeout_ms_is_the_deadline_as_the_header_is() -> None:
    async with running_service(SimulatedUpstreams(posts=None).router) as service:
        by_query = await service.get("/v1/users/7/overview?timeout_ms=50")
        by_header = await service.overview(X_Request_Timeout_Ms="50")
    for response in (by_query, by_header):
        error = response.json()["posts"]["error"]
        assert error["detail"] == "posts: no answer within 0.05 s"


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "", "1e3"])
async def test_an_invalid_timeout_ms_is_a_422(service: ServiceClient, value: str) -> None:
    response = await service.overview(f"?timeout_ms={value}")
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (response.status_code, error["parameter"]) == (422, "timeout_ms")


@pytest.mark.parametrize("path", ["/v1/users/7/overview?", "/v1/overviews?user_id=7&"])
async def test_a_timeout_in_both_places_is_a_422(service: ServiceClient, path: str) -> None:
    headers = {"X-Request-Timeout-Ms": "50"}
    response = await service.get(f"{path}timeout_ms=50", headers=headers)
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (response.status_code, error["parameter"]) == (422, "timeout_ms")
