"""What is served stale is asked for again in the background."""

import asyncio
import gc

import pytest

from app.call import Answer, Call
from app.errors import (
    CircuitOpen,
    Failure,
    NotConfirmed,
    NotFound,
    Timeout,
    TooManyRequests,
    UpstreamStatus,
)
from app.resilience.events import RefreshEnded, ServedFromCache
from tests.fakes import a_cache_policy, an_answer, leaving_nothing, now
from tests.resilience.layers.caches import Cache, a_cache_of, a_call_from

pytestmark = pytest.mark.anyio

BUSY = UpstreamStatus(503)


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
        assert len(upstream.calls) == 1
        await asyncio.sleep(0.5)
    (refresh,) = upstream.calls
    assert (refresh.known, refresh.question) == (old, calls[0].question)
    assert (refresh.context.deadline, refresh.context.request_id) == (5.0, "test")
    assert not refresh.context.fan_out.locked()
    assert refresh.context.fan_out is not calls[0].context.fan_out
    assert refresh.tally is not calls[0].tally
    assert cache.events[3:] == [RefreshEnded(refresh, None)]
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
    await cache.background.aclose()


@pytest.mark.parametrize(
    ("failure", "gone"),
    [
        (BUSY, False),
        (Timeout("late"), False),
        (CircuitOpen("resting"), False),
        (TooManyRequests("fewer"), False),
        (NotFound("gone"), True),
        (UpstreamStatus(403), True),
        (UpstreamStatus(410), True),
    ],
    ids=repr,
)
async def test_cache_emits_that_a_refresh_failed_and_deletes_what_was_refused(
    failure: Failure, gone: bool
) -> None:
    old = an_answer(cache_policy=a_cache_policy(2, 3))
    cache, upstream = a_cache_of(old, failure)
    await asyncio.sleep(2)
    async with leaving_nothing():
        cache.fetch.lookup(a_call_from())
        await asyncio.sleep(1)
    assert cache.events[1:] == [RefreshEnded(upstream.calls[0], failure)]
    assert cache.fetch.lookup(a_call_from()) is (None if gone else old)
    await cache.background.aclose()


async def test_cache_deletes_a_stale_answer_when_its_refresh_is_uncacheable() -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(2, 3)), an_answer(b"uncacheable"))
    await asyncio.sleep(2)
    cache.fetch.lookup(a_call_from())
    await asyncio.sleep(1)
    assert cache.fetch.lookup(a_call_from()) is None


async def test_cache_does_not_serve_stale_after_stale_while_revalidate_is_over() -> None:
    cache, upstream = a_cache_of(an_answer(cache_policy=a_cache_policy(2, 3)))
    await asyncio.sleep(5)
    assert cache.fetch.lookup(a_call_from()) is None
    assert (cache.events, upstream.calls) == ([], [])


async def test_cache_refresh_that_is_not_confirmed_asks_again_without_conditions() -> None:
    old, new = (
        an_answer(b"old", cache_policy=a_cache_policy(2, 3, etag=b'"old"')),
        an_answer(b"new", cache_policy=a_cache_policy(99), requested_at=2.5),
    )
    cache, upstream = a_cache_of(old, NotConfirmed("another one"), new)
    await asyncio.sleep(2)
    async with leaving_nothing():
        assert cache.fetch.lookup(a_call_from()) is old
        await asyncio.sleep(1.1)
    assert [call.known for call in upstream.calls] == [old, None]
    assert cache.events[1:] == [RefreshEnded(upstream.calls[0], None)]
    assert cache.fetch.lookup(a_call_from()) is new


async def test_cache_refreshes_are_cancelled_and_awaited_with_the_background() -> None:
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
        await cache.background.aclose()
        for client in (b"one", b"another"):
            cache.store.put(a_call_from(client).key, an_answer(cache_policy=a_cache_policy(0, 9)))
            cache.fetch.lookup(a_call_from(client))
        await asyncio.sleep(1)
        await cache.background.aclose()
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
