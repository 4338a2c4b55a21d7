"""What each attempt is told of the time that its client has left."""

from itertools import pairwise

import pytest

from tests.service.replies import never, saying
from tests.service.running import NOISE, running
from tests.service.upstream import Reply

pytestmark = pytest.mark.anyio

_BROKEN = saying(b"", "503 Service Unavailable")


@pytest.mark.parametrize(
    ("reply", "each", "attempts"),
    [
        (_BROKEN, {}, 5),
        (never, {"attempt_timeout": 0.15}, 5),
        (never, {"hedge": 0.05}, 3),
    ],
    ids=["retries", "time-outs", "hedges"],
)
async def test_each_attempt_is_told_of_less_time_than_the_one_before(
    reply: Reply, each: dict[str, object], attempts: int
) -> None:
    async with running({"posts": reply}, {"retries": 4, **each}) as service:
        await service.overview("?include=posts", X_Request_Timeout_Ms="1500")
        told = [int(one.headers["x-request-timeout-ms"]) for one in service.upstreams["posts"].seen]
        assert len(told) >= attempts
        assert 1500 - NOISE * 1000 < told[0] <= 1500
        assert all(later < earlier for earlier, later in pairwise(told))
        assert await service.leftovers() == []
