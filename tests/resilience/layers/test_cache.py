import asyncio
from dataclasses import replace

import pytest

from app.call import Answer, Call, Data
from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotConfirmed,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.events import ServedFromCache, ServedStale
from tests.fakes import a_cache_policy, an_answer, now, result_or_error
from tests.resilience.layers.caches import Cache, Scripted, a_cache_of, a_call_from

pytestmark = pytest.mark.anyio

BUSY = UpstreamStatus(503)


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
async def test_cache_does_not_serve_stale_in_place_of_a_redirect_or_a_4xx_but_deletes_it(
    failure: Failure,
) -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(2, if_error=9)), failure, BUSY)
    await asyncio.sleep(2)
    assert await result_or_error(cache.fetch(a_call_from())) is failure
    assert (cache.events, len(cache.store)) == ([], 0)
    assert await result_or_error(cache.fetch(a_call_from())) is BUSY


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


@pytest.mark.parametrize("failure", NO_ANSWER, ids=repr)
async def test_cache_still_has_a_stale_answer_stored_after_a_failure_that_is_no_answer(
    failure: Failure,
) -> None:
    old = an_answer(cache_policy=a_cache_policy(0, if_error=99))
    cache, upstream = a_cache_of(old, failure, BUSY)
    for _ in range(2):
        await result_or_error(cache.fetch(a_call_from()))
    assert [call.known for call in upstream.calls] == [old, old]


@pytest.mark.parametrize("failure", [*NO_ANSWER, *REFUSED], ids=repr)
async def test_cache_passes_a_failure_on_if_nothing_is_stored(failure: Failure) -> None:
    cache = Cache(Scripted(failure))
    assert await result_or_error(cache.fetch(a_call_from())) is failure
    assert len(cache.store) == 0


# A 304 about another answer


def a_stale_answer(if_error: float = 0.0) -> Answer:
    return an_answer(b"old", cache_policy=a_cache_policy(0, if_error=if_error, etag=b'"old"'))


async def test_cache_that_is_not_confirmed_deletes_and_asks_again_without_conditions() -> None:
    new = an_answer(b"new", cache_policy=a_cache_policy(99))
    cache, upstream = a_cache_of(old := a_stale_answer(), NotConfirmed("another one"), new)
    call = a_call_from()
    assert await cache.fetch(call) is new
    assert upstream.calls == [replace(call, known=old), replace(call, known=None)]
    assert cache.fetch.lookup(a_call_from()) is new


@pytest.mark.parametrize("failure", [BUSY, NotFound("gone")])
async def test_cache_that_is_not_confirmed_has_nothing_stored_if_it_cannot_ask_again(
    failure: Failure,
) -> None:
    """Nor is the old answer served stale: the upstream has said that there is another one."""
    cache, upstream = a_cache_of(a_stale_answer(if_error=9), NotConfirmed("another one"), failure)
    assert await result_or_error(cache.fetch(a_call_from())) is failure
    assert (len(cache.store), len(upstream.calls)) == (0, 2)


# no-store


async def test_cache_stores_nothing_for_a_no_store_call_and_leaves_what_is_stored() -> None:
    answers = [an_answer(json, cache_policy=a_cache_policy(9.0)) for json in (b"one", b"two")]
    cache = Cache(Scripted(*answers))
    call = a_call_from(no_cache=True, no_store=True)
    assert await cache.fetch(call) is answers[0]
    assert (call.tally.cache, call.tally.stored, len(cache.store)) == ("request", False, 0)
    old = an_answer(b"old", cache_policy=a_cache_policy(9.0))
    cache.store.put(call.key, old)
    assert await cache.fetch(a_call_from(no_cache=True, no_store=True)) is answers[1]
    assert cache.fetch.lookup(a_call_from()) is old


async def test_cache_deletes_a_stored_answer_that_is_gone_for_a_no_store_call_too() -> None:
    cache, _ = a_cache_of(an_answer(cache_policy=a_cache_policy(9.0)), NotFound("gone"))
    await result_or_error(cache.fetch(a_call_from(no_cache=True, no_store=True)))
    assert len(cache.store) == 0


# The key


async def test_cache_serves_no_answer_that_another_decoder_has_made() -> None:
    cache, upstream = a_cache_of(an_answer(cache_policy=a_cache_policy(9.0)))
    call = a_call_from()
    decoded_otherwise = replace(call.question, decode=lambda _: Data(b"{}"))
    other = Call(decoded_otherwise, call.context)
    assert cache.fetch.lookup(other) is None
    await cache.fetch(other)
    assert upstream.calls == [other]
