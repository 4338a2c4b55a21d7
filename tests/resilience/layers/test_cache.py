import asyncio
import gc
from dataclasses import replace

import pytest

from app.call import Answer, Call
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.events import BudgetSpent, RefreshEnded, ServedFromCache, ServedStale
from tests.fakes import a_cache_policy, an_answer, leaving_nothing, now, result_or_error
from tests.resilience.layers.caches import Cache, a_call_from

pytestmark = pytest.mark.anyio

BUSY = UpstreamStatus(503)


class Scripted:
    """Attempts take `seconds` and end as the next of `ends`; after the last with an answer."""

    def __init__(self, *ends: Answer | Exception, seconds: float = 0.5) -> None:
        self._ends = list(ends)
        self.seconds = seconds
        self.calls: list[Call] = []
        self.in_flight = 0

    async def __call__(self, call: Call) -> Answer:
        self.calls.append(call)
        self.in_flight += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        end = self._ends.pop(0) if self._ends else an_answer(b"unexpected")
        if isinstance(end, Exception):
            raise end
        return end


def a_cache_of(stored: Answer, *ends: Answer | Exception) -> tuple[Cache, Scripted]:
    """A cache in which the answer is stored, and an upstream whose attempts end as `ends`."""
    upstream = Scripted(*ends)
    cache = Cache(upstream)
    cache.store.put(a_call_from().key, stored)
    return cache, upstream


async def test_cache_serves_a_fresh_answer_without_asking_the_upstream_and_without_a_task() -> None:
    answer = an_answer(cache_policy=a_cache_policy(2.0, while_revalidate=5.0))
    cache, upstream = a_cache_of(answer)
    await asyncio.sleep(1.999)
    call, tasks = a_call_from(), asyncio.all_tasks()
    assert cache.fetch.lookup(call) is answer
    assert asyncio.all_tasks() == tasks
    assert cache.events == [ServedFromCache(call, stale=False)]
    assert (call.tally.cache, call.tally.attempts, upstream.calls) == ("hit", 0, [])


async def test_cache_miss_asks_the_upstream_and_stores_the_answer() -> None:
    answer = an_answer(cache_policy=a_cache_policy(9.0))
    upstream = Scripted(answer)
    cache, call = Cache(upstream), a_call_from()
    assert cache.fetch.lookup(call) is None
    assert await cache.fetch(call) is answer
    assert (call.tally.cache, call.tally.stored) == ("miss", True)
    assert upstream.calls == [call]
    assert cache.fetch.lookup(a_call_from()) is answer
    assert cache.fetch.lookup(a_call_from(b"somebody else")) is None


async def test_cache_uses_nothing_stored_for_a_no_cache_call_but_stores_its_answer() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(9, 9, 9)),
        an_answer(b"new", cache_policy=a_cache_policy(9.0)),
    )
    cache, upstream = a_cache_of(old, BUSY, new)
    call = a_call_from(no_cache=True)
    assert cache.fetch.lookup(call) is None
    assert await result_or_error(cache.fetch(call)) is BUSY
    assert await cache.fetch(call) is new
    assert (call.tally.cache, call.tally.stored) == ("request", True)
    assert [call.known for call in upstream.calls] == [None, None]
    assert cache.fetch.lookup(a_call_from()) is new


async def test_cache_passes_a_stale_answer_on_to_be_revalidated() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(2.0)),
        an_answer(b"new", cache_policy=a_cache_policy(9.0)),
    )
    cache, upstream = a_cache_of(old, new)
    await asyncio.sleep(2)
    call = a_call_from()
    assert cache.fetch.lookup(call) is None
    assert await cache.fetch(call) is new
    assert (call.tally.cache, call.tally.stored) == ("stale", True)
    assert upstream.calls == [replace(call, known=old)]
    assert upstream.calls[0].tally is call.tally
    assert cache.fetch.lookup(a_call_from()) is new


async def test_cache_serves_stale_while_revalidate_at_once_with_one_background_refresh() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(2, 3)),
        an_answer(b"new", cache_policy=a_cache_policy(99)),
    )
    cache, upstream = a_cache_of(old, new)
    await asyncio.sleep(2)
    async with leaving_nothing():
        calls = [a_call_from() for _ in range(3)]
        for call in calls:
            assert cache.fetch.lookup(call) is old
            assert call.tally.cache == "hit"
            await asyncio.sleep(0.1)
        assert cache.events == [ServedFromCache(call, stale=True) for call in calls]
        assert (len(upstream.calls), cache.budget.balance) == (1, 9)
        await asyncio.sleep(0.5)
    (refresh,) = upstream.calls
    assert (refresh.known, refresh.question) == (old, calls[0].question)
    assert (refresh.context.deadline, refresh.context.request_id) == (5.0, "test")
    assert not refresh.context.fan_out.locked()
    assert refresh.context.fan_out is not calls[0].context.fan_out
    assert refresh.tally is not calls[0].tally
    assert cache.events[3:] == [RefreshEnded(refresh, None)]
    assert cache.budget.balance == 10  # refunded: without it, a call would have had to ask
    assert cache.fetch.lookup(a_call_from()) is new


async def test_cache_makes_one_refresh_for_each_stale_key() -> None:
    cache, upstream = a_cache_of(an_answer(cache_policy=a_cache_policy(0, 3)))
    cache.store.put(a_call_from(b"another").key, an_answer(cache_policy=a_cache_policy(0, 3)))
    for client in (b"", b"another", b"", b"another"):
        assert cache.fetch.lookup(a_call_from(client))
    await asyncio.sleep(0)
    assert [call.context.headers for call in upstream.calls] == [
        (),
        a_call_from(b"another").context.headers,
    ]
    await cache.fetch.aclose()


@pytest.mark.parametrize("failure", [BUSY, Timeout("late"), NotFound("gone")])
async def test_cache_emits_that_a_refresh_failed_and_its_budget_is_not_refunded(
    failure: Failure,
) -> None:
    old = an_answer(cache_policy=a_cache_policy(2, 3))
    cache, upstream = a_cache_of(old, failure)
    await asyncio.sleep(2)
    async with leaving_nothing():
        cache.fetch.lookup(a_call_from())
        await asyncio.sleep(1)
    assert cache.events[1:] == [RefreshEnded(upstream.calls[0], failure)]
    assert cache.budget.balance == 9
    gone = isinstance(failure, NotFound)
    assert cache.fetch.lookup(a_call_from()) is (None if gone else old)
    await cache.fetch.aclose()


async def test_cache_deletes_a_stale_answer_when_its_refresh_is_uncacheable() -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(2, 3)), an_answer(b"uncacheable"))
    await asyncio.sleep(2)
    cache.fetch.lookup(a_call_from())
    await asyncio.sleep(1)
    assert cache.fetch.lookup(a_call_from()) is None
    assert cache.budget.balance == 10


async def test_cache_does_not_serve_stale_after_stale_while_revalidate_is_over() -> None:
    cache, upstream = a_cache_of(an_answer(cache_policy=a_cache_policy(2, 3)))
    await asyncio.sleep(5)
    assert cache.fetch.lookup(a_call_from()) is None
    assert (cache.events, upstream.calls) == ([], [])


async def test_cache_without_budget_serves_stale_and_makes_no_refresh() -> None:
    cache, upstream = a_cache_of(old := an_answer(cache_policy=a_cache_policy(0, 3)))
    while cache.budget.try_withdraw():
        pass
    call = a_call_from()
    async with leaving_nothing():
        assert cache.fetch.lookup(call) is old
    assert cache.events == [BudgetSpent(call), ServedFromCache(call, stale=True)]
    assert upstream.calls == []


NO_ANSWER = [
    Timeout("late"),
    Unreachable("broken"),
    BUSY,
    UpstreamStatus(500),
    UpstreamStatus(408),
    InvalidPayload("garbage"),
    CircuitOpen("resting"),
    Overloaded("full"),
    TooManyRequests("fewer"),
]
REFUSED = [NotFound("gone"), *(UpstreamStatus(code) for code in (301, 400, 401, 403, 404, 410))]


@pytest.mark.parametrize("failure", NO_ANSWER, ids=repr)
async def test_cache_serves_stale_if_error(failure: Failure) -> None:
    old = an_answer(cache_policy=a_cache_policy(2, if_error=3))
    cache, _ = a_cache_of(old, failure, failure)
    await asyncio.sleep(4)
    call = a_call_from()
    assert cache.fetch.lookup(call) is None
    assert await cache.fetch(call) == replace(old, stale=True)
    assert now() == 4.5
    assert cache.events == [ServedStale(call, failure)]
    assert call.tally.cache == "stale"
    # The second attempt fails at 5.0, when stale-if-error is over.
    assert await result_or_error(cache.fetch(a_call_from())) is failure
    assert len(cache.events) == 1


@pytest.mark.parametrize("failure", REFUSED, ids=repr)
async def test_cache_does_not_serve_stale_in_place_of_a_redirect_or_a_4xx(failure: Failure) -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(2, if_error=9)), failure)
    await asyncio.sleep(2)
    assert await result_or_error(cache.fetch(a_call_from())) is failure
    assert cache.events == []


async def test_cache_does_not_serve_stale_in_place_of_a_bug() -> None:
    bug = ZeroDivisionError()
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(0, if_error=9)), bug)
    assert await result_or_error(cache.fetch(a_call_from())) is bug


@pytest.mark.parametrize(
    "end",
    [
        NotFound("gone"),
        an_answer(b"uncacheable"),
        an_answer(b"too large" * 10_000, cache_policy=a_cache_policy(99)),
    ],
    ids=["gone", "uncacheable", "too large"],
)
@pytest.mark.parametrize("no_cache", [True, False])
async def test_cache_deletes_a_stale_answer_after_not_found_or_an_answer_it_cannot_store(
    end: Answer | Exception, no_cache: bool
) -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(0, if_error=99)), end, BUSY)
    call = a_call_from(no_cache=no_cache)
    assert await result_or_error(cache.fetch(call)) is end
    assert not call.tally.stored
    assert (len(cache.store), cache.store.size) == (0, 0)
    assert await result_or_error(cache.fetch(a_call_from())) is BUSY


async def test_cache_still_has_a_stale_answer_stored_after_other_failures() -> None:
    old = an_answer(cache_policy=a_cache_policy(0, if_error=99))
    cache, upstream = a_cache_of(old, UpstreamStatus(403), BUSY)
    for _ in range(2):
        await result_or_error(cache.fetch(a_call_from()))
    assert [call.known for call in upstream.calls] == [old, old]


async def test_cache_aclose_cancels_refreshes_and_awaits_them() -> None:
    ended: list[float] = []

    async def slow_to_cancel(_: Call) -> Answer:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(1)
            ended.append(now())
        raise AssertionError

    cache = Cache(slow_to_cancel)
    async with leaving_nothing():
        await cache.fetch.aclose()
        for client in (b"one", b"another"):
            cache.store.put(a_call_from(client).key, an_answer(cache_policy=a_cache_policy(0, 9)))
            cache.fetch.lookup(a_call_from(client))
        await asyncio.sleep(1)
        await cache.fetch.aclose()
        assert ended == [2.0, 2.0]
    assert not any(isinstance(event, RefreshEnded) for event in cache.events)


async def test_cache_refresh_with_a_bug_reaches_the_exception_handler_of_the_loop() -> None:
    bug = ZeroDivisionError()
    cache, upstream = a_cache_of(an_answer(cache_policy=a_cache_policy(0, 9)), bug)
    unhandled: list[object] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context.get("exception")))
    try:
        cache.fetch.lookup(a_call_from())
        await asyncio.sleep(1)
        gc.collect()
    finally:
        loop.set_exception_handler(handler)
    assert unhandled == [bug]
    assert not any(isinstance(event, RefreshEnded) for event in cache.events)
    cache.fetch.lookup(a_call_from())
    await asyncio.sleep(1)
    assert len(upstream.calls) == 2  # the bug does not prevent the next refresh
