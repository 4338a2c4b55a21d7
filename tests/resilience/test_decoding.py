"""Decoding: large bodies take turns, and nobody is blamed for the wait."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from app.call import Answer, Call, Event, Exchange, Fetch, Reply
from app.errors import InvalidPayload, Overloaded
from app.resilience.decoding import decoded
from app.resilience.events import AttemptEnded
from app.resilience.pipeline import Upstream, pipeline
from app.resilience.store import Store
from app.settings import UpstreamSettings
from tests.fakes import a_call, a_context, an_answer, now, result_or_error
from tests.resilience.pipelines import a_call_about, of_kind

pytestmark = pytest.mark.anyio

LARGE = 65_537
AN_ANSWER = an_answer()


@dataclass
class Replies:
    """An exchange whose replies have a size; decoding them is recorded, and may fail."""

    size: int = LARGE
    error: Exception | None = None
    decoded: list[object] = field(default_factory=list)

    async def __call__(self, call: Call) -> Reply:
        await asyncio.sleep(0)
        return Reply(self.size, lambda: self.decode(call))

    def decode(self, call: Call) -> Answer:
        self.decoded.append(call.question.target)
        if self.error is not None:
            raise self.error
        return AN_ANSWER


def with_turn(replies: Exchange) -> tuple[Fetch, asyncio.Lock]:
    turn = asyncio.Lock()
    return decoded(replies, turn), turn


async def test_between_two_large_bodies_everybody_else_has_a_turn() -> None:
    replies = Replies()
    fetch, _ = with_turn(replies)

    async def everybody_else() -> None:
        while "/posts/3" not in replies.decoded:
            await asyncio.sleep(0)
            replies.decoded.append("others")

    async with asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(_fetch(fetch, a_call_about(number)))
        tasks.create_task(everybody_else())
    bodies = [place for place, what in enumerate(replies.decoded) if what != "others"]
    assert len(bodies) == 4
    assert all(after - before > 1 for before, after in pairwise(bodies))


async def test_large_bodies_are_decoded_in_the_order_in_which_they_came() -> None:
    replies = Replies()
    fetch, _ = with_turn(replies)
    await asyncio.gather(*(fetch(a_call_about(number)) for number in range(5)))
    assert replies.decoded == [f"/posts/{number}" for number in range(5)]


@pytest.mark.parametrize(("size", "waits"), [(0, False), (LARGE - 1, False), (LARGE, True)])
async def test_a_small_body_is_decoded_while_somebody_else_has_the_turn(
    size: int, waits: bool
) -> None:
    fetch, turn = with_turn(Replies(size))
    async with turn:
        task = asyncio.create_task(_fetch(fetch, a_call()))
        await asyncio.sleep(1)
        assert task.done() is not waits
    assert (await task).waited == (1.0 if waits else 0.0)


@pytest.mark.parametrize("size", [1, LARGE])
async def test_what_decoding_raises_is_raised_and_the_turn_goes_on(size: int) -> None:
    error = InvalidPayload("no JSON")
    fetch, turn = with_turn(Replies(size, error))
    assert await result_or_error(fetch(a_call())) is error
    assert not turn.locked()


async def test_who_has_no_turn_by_its_deadline_is_overloaded() -> None:
    fetch, turn = with_turn(Replies())
    async with turn:
        failure = await result_or_error(fetch(a_call(a_context(deadline=3.0))))
        assert isinstance(failure, Overloaded)
        assert now() == 3.0
    assert (await fetch(a_call())).waited == 0.0


async def test_a_timeout_of_another_scope_is_not_taken_for_the_deadline() -> None:
    """The same class is raised for every scope: one that is not ours is a bug."""
    fetch, _ = with_turn(Replies(error=TimeoutError()))
    assert type(await result_or_error(fetch(a_call()))) is TimeoutError


async def test_a_client_that_leaves_gives_its_place_to_the_next() -> None:
    replies = Replies()
    fetch, turn = with_turn(replies)
    async with turn:
        first, second = (asyncio.create_task(_fetch(fetch, a_call_about(n))) for n in (1, 2))
        await asyncio.sleep(1)
        first.cancel()
    await second
    assert replies.decoded == ["/posts/2"]
    assert not turn.locked()


async def _fetch(fetch: Fetch, call: Call) -> Answer:
    return await fetch(call)


def a_pipeline_of(replies: Exchange, turn: asyncio.Lock, events: list[Event]) -> Upstream:
    return pipeline(
        [replies],
        UpstreamSettings(attempt_timeout=0.1, retries=0),
        store=Store(),
        decoding=turn,
        request_timeout=9.0,
        emit=events.append,
        clock=asyncio.get_running_loop().time,
    )


async def test_the_wait_for_a_turn_is_no_part_of_the_attempt_timeout_nor_of_latency() -> None:
    turn = asyncio.Lock()
    upstream = a_pipeline_of(Replies(), turn, [])
    for number in range(40):
        async with turn:
            task = asyncio.create_task(_fetch(upstream.fetch, a_call_about(number, now() + 9.0)))
            await asyncio.sleep(0.5)
        assert (await task).data == AN_ANSWER.data
    assert upstream.latency.p95 == 0.0


async def test_a_body_that_cannot_be_decoded_is_a_failed_attempt() -> None:
    events: list[Event] = []
    error = InvalidPayload("no JSON")
    upstream = a_pipeline_of(Replies(error=error), asyncio.Lock(), events)
    assert await result_or_error(upstream.fetch(a_call())) is error
    (ended,) = of_kind(AttemptEnded, events)
    assert ended.failure is error


async def test_nobody_is_blamed_for_having_no_turn() -> None:
    events: list[Event] = []
    turn = asyncio.Lock()
    upstream = a_pipeline_of(Replies(), turn, events)
    async with turn:
        for number in range(30):
            failure = await result_or_error(upstream.fetch(a_call_about(number, now() + 1.0)))
            assert isinstance(failure, Overloaded)
    assert (await upstream.fetch(a_call_about(99, now() + 1.0))).data == AN_ANSWER.data
    assert upstream.latency.p95 is None
