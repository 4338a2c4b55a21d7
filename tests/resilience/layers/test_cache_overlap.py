"""Flights that overlap: what was asked for later is newer, whichever comes first."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import UNCACHEABLE, Answer, Call
from app.errors import Failure, NotConfirmed, NotFound, Unreachable, UpstreamStatus
from tests.fakes import a_cache_policy, an_answer, now, on_virtual_time, result_or_error
from tests.resilience.layers.caches import Cache, a_call_from

pytestmark = pytest.mark.anyio

End = Failure | str


@dataclass(frozen=True)
class Flight:
    """A call at `start` that ends `seconds` later: "stored", "uncacheable", or a failure."""

    start: float
    seconds: float
    end: End


async def stored_after(flights: Sequence[Flight]) -> Answer | None:
    """What is stored when all flights have ended. Answers bear the number of their flight."""

    async def upstream(call: Call) -> Answer:
        flight, requested_at = flights[int(call.context.request_id)], now()
        await asyncio.sleep(flight.seconds)
        if isinstance(flight.end, Failure):
            raise flight.end
        policy = a_cache_policy(99.0) if flight.end == "stored" else UNCACHEABLE
        json = call.context.request_id.encode()
        return an_answer(json, cache_policy=policy, requested_at=requested_at)

    cache = Cache(upstream)

    async def fly(number: int) -> None:
        await asyncio.sleep(flights[number].start)
        call = a_call_from(no_cache=True)
        context = replace(call.context, request_id=str(number))
        await result_or_error(cache.fetch(replace(call, context=context)))

    await asyncio.gather(*(fly(number) for number in range(len(flights))))
    return cache.fetch.lookup(a_call_from())


@pytest.mark.parametrize(
    ("older", "kept"),
    [
        (Flight(0.0, 2.0, "stored"), b"1"),
        (Flight(0.0, 2.0, "uncacheable"), b"1"),
        (Flight(0.0, 2.0, NotFound("gone")), b"1"),
        (Flight(0.0, 2.0, Unreachable("broken")), b"1"),
    ],
)
async def test_cache_keeps_the_answer_of_a_newer_flight_however_an_older_one_ends(
    older: Flight, kept: bytes
) -> None:
    stored = await stored_after([older, Flight(1.0, 0.5, "stored")])
    assert stored is not None
    assert stored.data.json == kept


@pytest.mark.parametrize(
    ("newer", "kept"),
    [
        (Flight(1.0, 2.0, "stored"), b"1"),
        (Flight(1.0, 2.0, "uncacheable"), None),
        (Flight(1.0, 2.0, NotFound("gone")), None),
        (Flight(1.0, 2.0, Unreachable("broken")), b"0"),
    ],
)
async def test_cache_replaces_or_deletes_the_answer_of_an_older_flight_by_a_newer_one(
    newer: Flight, kept: bytes | None
) -> None:
    stored = await stored_after([Flight(0.0, 0.5, "stored"), newer])
    assert (stored and stored.data.json) == kept


@pytest.mark.parametrize("newer", ["uncacheable", NotFound("gone"), UpstreamStatus(403)])
async def test_cache_does_not_store_an_older_answer_that_comes_after_a_refusal(newer: End) -> None:
    """A reload has found out meanwhile that it is gone."""
    assert await stored_after([Flight(0.0, 2.0, "stored"), Flight(1.0, 0.5, newer)]) is None


async def test_cache_does_not_serve_stale_what_was_found_to_be_gone_meanwhile() -> None:
    """The call had seen it stored, and fails after the reload that was told so."""
    ends: list[Failure] = [NotFound("gone"), Unreachable("broken")]

    async def upstream(call: Call) -> Answer:
        await asyncio.sleep(1 if call.context.no_cache else 2)
        raise ends[0 if call.context.no_cache else 1]

    cache = Cache(upstream)
    cache.store.put(a_call_from().key, an_answer(cache_policy=a_cache_policy(0, if_error=99)))
    results = await asyncio.gather(
        *(result_or_error(cache.fetch(a_call_from(no_cache=reload))) for reload in (False, True))
    )
    assert results == ends[::-1]
    assert cache.events == []


async def test_cache_that_is_not_confirmed_deletes_no_newer_answer() -> None:
    old = an_answer(b"old", cache_policy=a_cache_policy(0, etag=b'"old"'))
    newer = an_answer(b"newer", cache_policy=a_cache_policy(99), requested_at=1.0)
    asked: list[Call] = []

    async def upstream(call: Call) -> Answer:
        asked.append(call)
        await asyncio.sleep(2)
        if call.known is not None:
            raise NotConfirmed("another one")
        raise Unreachable("broken")

    cache = Cache(upstream)
    cache.store.put(a_call_from().key, old)
    task = asyncio.ensure_future(result_or_error(cache.fetch(a_call_from())))
    await asyncio.sleep(1)
    cache.store.put(a_call_from().key, newer)
    await task
    assert [call.known for call in asked] == [old, None]
    assert cache.fetch.lookup(a_call_from()) is newer


ENDS: list[End] = ["stored", "stored", "uncacheable", NotFound("gone"), Unreachable("broken")]


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from(ENDS)),
        max_size=8,
        unique_by=(lambda flight: flight[0], lambda flight: flight[0] + flight[1]),
    )
)
def test_cache_has_the_newest_of_overlapping_flights_as_a_naive_reference_says(
    times: Sequence[tuple[int, int, End]],
) -> None:
    """No two begin or end at the same time, so that it is clear which one comes first."""
    flights = [Flight(start, seconds + 0.5, end) for start, seconds, end in times]
    newest: Flight | None = None
    for flight in sorted(flights, key=lambda flight: flight.start + flight.seconds):
        if isinstance(flight.end, Unreachable) or (newest and newest.start > flight.start):
            continue
        newest = flight
    stored = newest if newest and newest.end == "stored" else None

    async def main() -> None:
        answer = await stored_after(flights)
        assert (answer and answer.data.json) == (stored and b"%d" % flights.index(stored))

    on_virtual_time(main)
