"""An upstream's 401 and 403 are told as such where the client's own headers were sent to it."""

import httpx
import pytest

from tests.in_process import (
    MODELS,
    SECTIONS,
    STATUS_500,
    body_of,
    every_upstream,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

FORWARDING = {"forward_headers": ("authorization",)}
CREDENTIALS = {"Authorization": "Bearer hush"}


def refused(status: int, challenge: str | None = None) -> httpx.Response:
    headers = {} if challenge is None else {"WWW-Authenticate": challenge}
    return httpx.Response(status, headers=headers, json={"secret": "theirs"})


@pytest.mark.parametrize(("status", "reason"), [(401, "unauthorized"), (403, "forbidden")])
async def test_a_refusal_of_the_clients_credentials_is_told_as_such(
    status: int, reason: str
) -> None:
    upstream = upstream_with(posts=refused(status))
    async with running_service(upstream, **FORWARDING) as service:
        response = await service.overview(**CREDENTIALS)
    error = body_of(response, MODELS.answer)["posts"]["error"]
    assert response.status_code == 200
    assert (error["reason"], error["status"]) == (reason, status)
    assert error["type"] == f"/problems/{reason}"
    assert (error["retryable"], error["attempts"]) == (False, 1)
    assert "theirs" not in response.text


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_of_credentials_of_ours_is_an_upstream_status(status: int) -> None:
    ours = every_upstream(headers={"x-api-key": "ours"})
    async with running_service(
        upstream_with(posts=refused(status)), upstreams=ours, **FORWARDING
    ) as service:
        error = (await service.overview()).json()["posts"]["error"]
    assert (error["reason"], error["status"]) == ("upstream_status", 502)


@pytest.mark.parametrize(
    ("challenge", "scheme"),
    [
        ('Bearer realm="their-host", error="invalid_token"', "Bearer"),
        ("Basic", "Basic"),
        ('DPoP algs="ES256"', "DPoP"),
        ("Negotiate, Basic", "Negotiate"),
        ("", "Bearer"),
        (None, "Bearer"),
        ('"their-host"', "Bearer"),
        ("their.host/secret", "Bearer"),
    ],
)
async def test_a_401_has_a_challenge_with_the_scheme_of_the_upstream_and_nothing_else(
    challenge: str | None, scheme: str
) -> None:
    upstream = upstream_with(user=refused(401, challenge))
    async with running_service(upstream, **FORWARDING) as service:
        response = await service.overview("?require=user", **CREDENTIALS)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == scheme
    assert response.headers["cache-control"] == "no-store"
    assert body_of(response, MODELS.failed)["status"] == 401


async def test_all_refused_is_the_refusal_and_one_other_failure_is_that() -> None:
    upstream = upstream_with(**dict.fromkeys(SECTIONS, refused(403)))
    async with running_service(upstream, **FORWARDING) as service:
        all_refused = await service.overview(**CREDENTIALS)
    assert body_of(all_refused, MODELS.failed)["type"] == "/problems/forbidden"
    assert (all_refused.status_code, "www-authenticate" in all_refused.headers) == (403, False)
    upstream = upstream_with(user=STATUS_500, posts=refused(401), todos=refused(403))
    async with running_service(upstream, **FORWARDING) as service:
        mixed = await service.overview(**CREDENTIALS)
    assert mixed.status_code == 502


async def test_refusals_are_answers_for_the_breaker() -> None:
    upstream = upstream_with(posts=refused(401))
    async with running_service(upstream, **FORWARDING) as service:
        for _ in range(40):
            await service.overview("?include=posts", **CREDENTIALS)
        assert {b.state(0) for b in service.state.upstreams["posts"].breakers} == {"closed"}
