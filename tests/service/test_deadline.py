"""Deadlines and attempt timeouts, as upstreams and clients see them."""

from itertools import pairwise

import pytest

from tests.service.faults import dripping_body
from tests.service.replies import never, respond_with
from tests.service.running import NOISE, running_service
from tests.service.upstream import Reply

pytestmark = pytest.mark.anyio

_UNAVAILABLE = respond_with(b"", "503 Service Unavailable")


@pytest.mark.parametrize(
    ("reply", "each", "attempts"),
    [
        (_UNAVAILABLE, {}, 5),
        (never, {"attempt_timeout": 0.15}, 5),
        (never, {"hedge": 0.05}, 3),
    ],
    ids=["retries", "timeouts", "hedges"],
)
async def test_each_attempt_sends_a_shorter_deadline_than_the_one_before(
    reply: Reply, each: dict[str, object], attempts: int
) -> None:
    async with running_service({"posts": reply}, {"retries": 4, **each}) as service:
        await service.overview("?include=posts", X_Request_Timeout_Ms="1500")
        exchanges = service.upstreams["posts"].exchanges
        timeouts = [int(exchange.headers["x-request-timeout-ms"]) for exchange in exchanges]
        assert len(timeouts) >= attempts
        assert 1500 - NOISE * 1000 < timeouts[0] <= 1500
        assert all(later < earlier for earlier, later in pairwise(timeouts))
        assert await service.leaks() == []


async def test_a_dripping_body_ends_with_the_attempt_timeout_before_the_deadline() -> None:
    each = {"attempt_timeout": 0.2, "retries": 0}
    async with running_service({"posts": dripping_body}, each) as service:
        response = await service.overview()
        assert response.json["posts"]["error"]["reason"] == "timeout"
        assert 0.2 <= response.seconds < 0.25 + NOISE
        assert await service.leaks() == []
