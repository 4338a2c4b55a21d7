"""What was written once is sent again only where writing it again would give the same."""

import httpx
import pytest
import respx
from fastapi.responses import Response

from app.api.responses import ResponseCache
from app.call import Answer, Tally
from app.composition.outcome import Outcome
from tests.fakes import a_cache_policy, an_answer
from tests.in_process import POST, each, running_service, upstream_with

pytestmark = pytest.mark.anyio

KEPT = each(ttl=60)


def found(*answers: Answer) -> dict[str, Outcome]:
    return {str(number): Outcome(one, Tally(), 0.0) for number, one in enumerate(answers)}


@pytest.mark.parametrize(
    ("now", "same"), [(10.0, True), (10.24, True), (10.25, False), (11.0, False)]
)
def test_it_is_good_until_a_time_to_live_is_a_second_less(now: float, same: bool) -> None:
    responses, response = ResponseCache(), Response(b"{}")
    answers = found(
        an_answer(cache_policy=a_cache_policy(15.5)), an_answer(cache_policy=a_cache_policy(70.25))
    )
    responses.put(answers, 10.0, response)
    assert (responses.get(answers, now) is response) is same


def test_equal_answers_are_not_the_same_and_fewer_are_not_either() -> None:
    responses, one, other = (
        ResponseCache(),
        *(an_answer(cache_policy=a_cache_policy(60.5)) for _ in range(2)),
    )
    responses.put(found(one, one), 10.0, Response(b"{}"))
    assert one == other
    assert responses.get(found(one, other), 10.0) is None
    assert responses.get(found(one), 10.0) is None
    assert responses.get(found(one, one), 10.0) is not None


def test_what_is_large_is_written_each_time() -> None:
    responses, answers = ResponseCache(), found(an_answer(cache_policy=a_cache_policy(60.5)))
    responses.put(answers, 10.0, Response(b" " * 16_385))
    assert responses.get(answers, 10.0) is None


async def test_what_one_client_has_fetched_anew_all_others_see_at_once(
    upstream: respx.MockRouter,
) -> None:
    async with running_service(upstream, upstreams=KEPT) as service:
        old = [await service.overview() for _ in range(3)]
        upstream["posts"].respond(json=[POST | {"title": "new"}])
        fetched = await service.overview(Cache_Control="no-cache")
        new = [await service.overview() for _ in range(3)]
    assert {one.content for one in old} == {old[0].content}
    assert {one.content for one in new} == {fetched.content} != {old[0].content}
    assert {one.headers["etag"] for one in new} == {fetched.headers["etag"]}
    assert [one.headers["cache-status"].count("hit") for one in new] == [3, 3, 3]


async def test_who_has_it_already_is_told_so_as_before(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, upstreams=KEPT) as service:
        tag = [await service.overview() for _ in range(3)][-1].headers["etag"]
        again = await service.overview(If_None_Match=tag)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)


async def test_nobody_is_sent_what_was_written_for_other_credentials() -> None:
    def secret(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[POST | {"title": request.headers["authorization"]}])

    forwarding = {"forward_headers": ("authorization",), "upstreams": KEPT}
    async with running_service(upstream_with(posts=secret), **forwarding) as service:
        for token in ("one", "two") * 3:
            answer = await service.overview(Authorization=token)
            assert answer.json()["posts"]["data"][0]["title"] == token


async def test_a_request_that_is_answered_again_has_its_own_id(upstream: respx.MockRouter) -> None:
    async with running_service(upstream, upstreams=KEPT) as service:
        for name in ("a", "b", "c"):
            answer = await service.overview(X_Request_ID=name)
            assert answer.headers.get_list("x-request-id") == [name]
