"""`ANSWER_MAX`: what is too much for one answer fails, is explained, and costs others nothing."""

import json
from typing import Any

import httpx
import pytest

from tests.api.simulated_upstreams import SimulatedUpstreams, routed
from tests.api.stream_client import JSON, NDJSON, SSE, stream
from tests.in_process import (
    MODELS,
    POST,
    SECTIONS,
    TODO,
    USER,
    body_of,
    log_lines,
    running_service,
)

pytestmark = pytest.mark.anyio

SIZE = 100_000
"""Bytes of the posts of each user."""


class LargePosts:
    """An upstream whose posts are large; it records the users that were asked for."""

    def __init__(self, size: int = SIZE) -> None:
        self.users: list[int] = []
        self.router = routed(self._respond)
        self._size = size

    async def _respond(self, section: str, user: int) -> httpx.Response:
        self.users.append(user)
        data: dict[str, Any] = {
            "user": USER | {"id": user},
            "posts": [POST | {"userId": user, "body": "x" * self._size}],
            "todos": [TODO | {"userId": user}],
        }
        return httpx.Response(200, json=data[section])


def of(users: int) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user}" for user in range(1, users + 1))


@pytest.mark.parametrize(("answer_max", "fitting"), [(1_000_000, 9), (450_000, 4), (150_000, 1)])
async def test_items_of_a_batch_beyond_the_bound_fail_as_overloaded(
    answer_max: int, fitting: int
) -> None:
    upstream = LargePosts()
    async with running_service(upstream.router, answer_max=answer_max, fan_out=3) as service:
        response = await service.get(of(20))
    batch = body_of(response, MODELS.batch)
    assert len(response.content) <= answer_max
    assert batch["complete"] is False
    assert response.headers["cache-control"] == "no-store"
    assert [item["user_id"] for item in batch["items"]] == [*range(1, 21)]
    statuses = [item["status"] for item in batch["items"]]
    assert statuses == ["ok"] * fitting + ["failed"] * (20 - fitting)
    for item in batch["items"][fitting:]:
        assert item["error"]["type"] == "/problems/overloaded"
        assert "too large" in item["error"]["detail"]
        assert {section["status"] for section in item["error"]["sections"].values()} == {"failed"}


async def test_nobody_is_asked_for_items_that_have_no_room_any_more() -> None:
    upstream = LargePosts()
    async with running_service(upstream.router, answer_max=300_000, fan_out=3) as service:
        await service.get(of(50))
    assert len(set(upstream.users)) < 10


async def test_a_batch_within_the_bound_is_complete_and_joined_as_json() -> None:
    async with running_service(LargePosts().router) as service:
        response = await service.get(of(20), headers={"Accept-Encoding": "identity"})
        again = await service.get(of(20), headers={"If-None-Match": response.headers["etag"]})
    batch = body_of(response, MODELS.batch)
    assert batch["complete"] is True
    assert len(response.content) == int(response.headers["content-length"]) > 20 * SIZE
    assert (again.status_code, again.content) == (304, b"")


async def test_the_room_of_a_batch_is_free_after_it() -> None:
    async with running_service(LargePosts().router, answer_max=1_000_000) as service:
        first = [(await service.get(of(9))).json()["complete"] for _ in range(9)]
        assert first == [True] * 9
        assert service.state.answers.left == 1_000_000


async def test_a_streamed_batch_has_no_bound_because_it_is_not_held() -> None:
    async with running_service(LargePosts().router, answer_max=150_000) as service:
        response = await stream(service, of(20), NDJSON)
    items = [json.loads(line) for _, line in response.chunks]
    assert all(item["overview"]["complete"] for item in items)
    assert len(items) == 20


@pytest.mark.parametrize("answer_max", [100_900, 50_000, 2_000])
async def test_a_section_that_would_make_an_overview_too_large_fails_alone(
    answer_max: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(LargePosts().router, answer_max=answer_max) as service:
        overview = body_of(await service.overview(), MODELS.answer)
        assert service.state.answers.left == answer_max
    statuses = {name: overview[name]["status"] for name in SECTIONS}
    assert statuses == {"user": "ok", "posts": "failed", "todos": "ok"}
    error = overview["posts"]["error"]
    assert (error["reason"], error["status"], error["attempts"]) == ("overloaded", 503, 1)
    assert error["detail"] == "posts: the answer would be too large"
    (line,) = log_lines(capsys, "request")
    assert line["failed"] == {"posts": "overloaded"}


async def test_a_required_section_that_is_too_large_decides_the_answer() -> None:
    async with running_service(LargePosts().router, answer_max=50_000) as service:
        response = await service.overview("?require=posts")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert body_of(response, MODELS.failed)["type"] == "/problems/overloaded"


async def test_a_large_overview_within_the_bound_is_the_same_answer_as_ever() -> None:
    async with running_service(LargePosts().router) as service:
        response = await service.overview(Accept_Encoding="identity")
        again = await service.overview(If_None_Match=response.headers["etag"])
        path, identity = response.request.url.path, {"Accept-Encoding": "identity"}
        head = await service.head(path, headers=identity)
        streamed = await stream(service, response.request.url.path, SSE)
    overview = body_of(response, MODELS.answer)
    assert overview["complete"] is True
    assert len(response.content) == int(response.headers["content-length"]) > SIZE
    assert (again.status_code, again.content) == (304, b"")
    assert head.headers["content-length"] == response.headers["content-length"]
    assert len(overview["posts"]["data"][0]["body"]) == SIZE
    assert streamed.ended


async def test_a_large_overview_from_the_cache_is_sent_again_and_again() -> None:
    settings = {name: {"ttl": 60} for name in ("users", "posts", "todos")}
    async with running_service(LargePosts().router, upstreams=settings) as service:
        bodies = {(await service.overview()).content for _ in range(3)}
        assert service.state.answers.left == 2**26
    assert len(bodies) == 1
    assert len(bodies.pop()) > SIZE


async def test_others_find_room_beside_answers_that_nobody_reads() -> None:
    async with running_service(LargePosts().router, answer_max=1_000_000) as service:
        unread = [service.state.answers.begin() for _ in range(30)]
        for _ in range(1000):
            for answer in unread:
                answer.take(1000)
        overview = (await service.overview()).json()
    assert overview["complete"] is True


async def test_a_batch_whose_client_leaves_gives_its_room_back() -> None:
    upstreams = SimulatedUpstreams(posts=5.0)
    async with running_service(upstreams.router) as service:
        response = await stream(service, of(20), JSON, disconnect_after=0.5)
        assert response.chunks == []
        assert service.state.answers.left == 2**26
