"""An upstream that is gone costs little, its clients are told at once, and it is taken back."""

import asyncio
from itertools import count
from statistics import median
from typing import Any

import pytest

from tests.service.faults import closes_at_once
from tests.service.replies import good, never, saying
from tests.service.running import NOISE, Answered, Running, eventually, running
from tests.service.upstream import Exchange, Reply

pytestmark = pytest.mark.anyio

_GONE = {
    "500": saying(b"", "500 Internal Server Error"),
    "closed": closes_at_once,
    "hanging": never,
}
_CROWD = 100
_AT_ONCE = 0.01
_users = count(1000)


class _Turning:
    """A reply that can be changed."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def __call__(self, exchange: Exchange) -> None:
        await self.reply(exchange)


async def _posts(service: Running, users: int = 1) -> list[Answered]:
    """The posts of different users, all asked for at once."""
    return await asyncio.gather(
        *(service.get(f"/v1/users/{next(_users)}/overview?include=posts") for _ in range(users))
    )


def _section(answer: Answered) -> Any:
    told = answer.json
    return told.get("sections", told)["posts"]


def _reasons(answers: list[Answered]) -> list[str]:
    return [_section(answer)["error"]["reason"] for answer in answers]


@pytest.mark.parametrize("fault", _GONE)
async def test_calls_to_what_is_gone_are_few_and_then_refused_at_once(fault: str) -> None:
    async with running({"posts": _GONE[fault]}, {"attempt_timeout": 0.1}) as service:
        seen = service.upstreams["posts"].seen
        await _posts(service, 2 * _CROWD)
        assert len(seen) <= 1.25 * 2 * _CROWD
        before = len(seen)
        alone = [(await _posts(service))[0] for _ in range(50)]
        assert len(seen) - before <= 2  # one probe a second
        refused = [one for one in alone if _section(one)["error"]["attempts"] == 0]
        assert len(refused) >= 48
        assert set(_reasons(refused)) == {"circuit_open"}
        assert all(one.status == 503 and int(one.headers["Retry-After"]) >= 1 for one in refused)
        assert median(one.seconds for one in refused) < _AT_ONCE + NOISE
        assert await service.leftovers() == []


async def test_a_crowd_that_waits_for_a_rested_upstream_sends_one_probe() -> None:
    back = asyncio.Event()

    async def slowly_back(exchange: Exchange) -> None:
        await back.wait()
        await good(exchange)

    posts = _Turning(_GONE["500"])
    async with running({"posts": posts}, {"retries": 0, "attempt_timeout": 5.0}) as service:
        await _posts(service, 20)
        (refused,) = await _posts(service)
        error = _section(refused)["error"]
        assert error["reason"] == "circuit_open"
        posts.reply = slowly_back
        seen = service.upstreams["posts"].seen
        before = len(seen)
        await asyncio.sleep(error["retry_after"] + 0.01)
        crowd = [asyncio.create_task(_posts(service)) for _ in range(_CROWD)]
        assert await eventually(lambda: sum(one.done() for one in crowd) == _CROWD - 1)
        assert len(seen) - before == 1
        refused_all = [answer for one in crowd if one.done() for answer in one.result()]
        assert set(_reasons(refused_all)) == {"circuit_open"}
        back.set()
        (probe,) = [one for one in crowd if not one.done()]
        assert _section((await probe)[0])["status"] == "ok"
        assert len(seen) - before == 1
        after = await _posts(service, 10)
        assert all(_section(answer)["status"] == "ok" for answer in after)
        assert await service.leftovers() == []


@pytest.mark.parametrize("fault", _GONE)
async def test_last_good_data_is_told_until_its_window_ends_and_then_the_truth(fault: str) -> None:
    posts = _Turning(good)
    each = {"ttl": 0.05, "stale_if_error": 1.2, "attempt_timeout": 0.1, "retries": 0}
    async with running({"posts": posts}, each) as service:
        first = (await service.overview()).json["posts"]
        assert first["stale"] is False
        posts.reply = _GONE[fault]
        await asyncio.sleep(0.1)
        stale = await service.overview()
        assert stale.json["posts"] == {**first, "stale": True}
        assert stale.json["complete"] is False
        assert stale.headers["Cache-Control"] == "no-store"
        assert "detail=stale-if-error" in stale.headers["Cache-Status"]
        await asyncio.sleep(1.25)
        failed = (await service.overview()).json["posts"]
        assert failed["status"] == "failed"
        posts.reply = good
        fresh = (await service.overview()).json["posts"]
        assert (fresh["status"], fresh["stale"]) == ("ok", False)
        assert fresh["as_of"] > first["as_of"]
        assert await service.leftovers() == []
