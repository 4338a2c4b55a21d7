"""The demo upstreams, over ASGI."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from app.demo import demo_upstream

pytestmark = pytest.mark.anyio


@pytest.fixture
async def demo() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=demo_upstream(latency=0))
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
        yield client


def _fault(value: str) -> Mapping[str, str]:
    return {"X-Demo-Fault": value}


async def test_a_user_has_every_field_of_jsonplaceholder(demo: httpx.AsyncClient) -> None:
    response = await demo.get("/users/3")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    user = response.json()
    assert user["id"] == 3
    assert list(user) == (
        ["id", "name", "username", "email", "address", "phone", "website", "company"]
    )
    assert list(user["address"]) == ["street", "suite", "city", "zipcode", "geo"]
    assert list(user["address"]["geo"]) == ["lat", "lng"]
    assert list(user["company"]) == ["name", "catchPhrase", "bs"]


@pytest.mark.parametrize("user", ["0", "11", "01", "marit"])
async def test_an_unknown_user_is_a_404(demo: httpx.AsyncClient, user: str) -> None:
    response = await demo.get(f"/users/{user}")
    assert (response.status_code, response.text) == (404, "{}")


@pytest.mark.parametrize(
    ("path", "fields", "items_per_user"),
    [
        ("/posts", ["userId", "id", "title", "body"], 10),
        ("/todos", ["userId", "id", "title", "completed"], 20),
    ],
)
async def test_a_list_has_the_items_of_all_ten_users(
    demo: httpx.AsyncClient, path: str, fields: list[str], items_per_user: int
) -> None:
    all_items = (await demo.get(path)).json()
    lists = [(await demo.get(path, params={"userId": user})).json() for user in range(1, 11)]
    assert all_items == [item for items in lists for item in items]
    assert [len(items) for items in lists] == [items_per_user] * 10
    assert [item["id"] for item in all_items] == list(range(1, 10 * items_per_user + 1))
    assert all(item["userId"] == user for user, items in enumerate(lists, 1) for item in items)
    assert all(list(item) == fields for item in all_items)


@pytest.mark.parametrize("path", ["/posts?userId=999", "/todos?userId=", "/posts?userId=marit"])
async def test_an_unknown_user_has_an_empty_list(demo: httpx.AsyncClient, path: str) -> None:
    response = await demo.get(path)
    assert (response.status_code, response.json()) == (200, [])


async def test_head_has_the_headers_of_get_and_no_body(demo: httpx.AsyncClient) -> None:
    get, head = await demo.get("/todos"), await demo.head("/todos")
    assert head.headers == get.headers
    assert head.content == b""


async def test_an_unknown_path_is_a_404_and_another_method_a_405(demo: httpx.AsyncClient) -> None:
    assert (await demo.get("/comments")).status_code == 404
    response = await demo.post("/posts", json={})
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


async def test_a_fault_affects_only_its_own_section(demo: httpx.AsyncClient) -> None:
    headers = _fault("posts=failing, todos=missing")
    assert (await demo.get("/users/1", headers=headers)).status_code == 200
    assert (await demo.get("/posts?userId=1", headers=headers)).status_code == 500
    assert (await demo.get("/todos?userId=1", headers=headers)).status_code == 404


@pytest.mark.parametrize(
    ("path", "fault"),
    [("/todos?userId=1", "todos=malformed"), ("/users/1", "user=bad_item")],
)
async def test_a_malformed_answer_is_not_json(
    demo: httpx.AsyncClient, path: str, fault: str
) -> None:
    response = await demo.get(path, headers=_fault(fault))
    assert response.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        response.json()


async def test_a_bad_item_is_one_among_good_ones(demo: httpx.AsyncClient) -> None:
    items = (await demo.get("/posts?userId=4", headers=_fault("posts=bad_item"))).json()
    assert len(items) == 10
    assert sum(not isinstance(item["id"], int) for item in items) == 1


async def test_a_slow_section_does_not_answer_in_time(demo: httpx.AsyncClient) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await demo.get("/posts?userId=1", headers=_fault("posts=slow"))


async def test_every_response_takes_the_latency() -> None:
    transport = httpx.ASGITransport(app=demo_upstream(latency=30))
    async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get("/users/1")


@pytest.mark.parametrize("path", ["/users/1", "/posts", "/todos"])
async def test_an_unknown_fault_is_a_400_on_every_path(demo: httpx.AsyncClient, path: str) -> None:
    response = await demo.get(path, headers=_fault("posts=slwo"))
    assert response.status_code == 400
    assert "X-Demo-Fault: 'slwo' is no fault: slow, failing" in response.json()["error"]
