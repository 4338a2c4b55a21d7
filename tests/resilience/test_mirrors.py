import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Fetch
from app.errors import CircuitOpen, Failure, Overloaded, TooManyRequests, UpstreamStatus
from app.resilience.mirrors import RoundRobin, round_robin
from tests.fakes import a_call, a_context, an_answer, now, on_virtual_time, result_or_error
from tests.resilience.races import (
    ABSENT,
    BROKEN,
    BUG,
    REFUSED,
    Mirror,
    an_open_circuit,
    attempts_of,
    result_leaving_nothing,
)

pytestmark = pytest.mark.anyio


def in_turn(*mirrors: Fetch) -> Fetch:
    return round_robin(mirrors, RoundRobin(len(mirrors), now))


async def test_round_robin_asks_each_mirror_in_its_turn() -> None:
    mirrors = [Mirror((0.0, None)) for _ in range(3)]
    fetch = in_turn(*mirrors)
    calls = [a_call() for _ in range(6)]
    answers = [await fetch(call) for call in calls]
    assert answers == [mirrors[n % 3].answer for n in range(6)]
    assert [call.tally.mirror for call in calls] == [0, 1, 2, 0, 1, 2]


async def test_round_robin_sends_the_retry_of_a_call_to_the_next_mirror() -> None:
    fetch = in_turn(*(Mirror((0.0, REFUSED)) for _ in range(3)))
    call, order = a_call(), []
    for _ in range(4):
        assert await result_or_error(fetch(call)) is REFUSED
        order.append(call.tally.mirror)
        await result_or_error(fetch(a_call()))  # other calls do not change the order of this one
    assert order == [0, 1, 2, 0]


async def test_round_robin_passes_over_open_circuit_breakers() -> None:
    good, other = Mirror((0.0, None)), Mirror((0.0, None))
    fetch = in_turn(an_open_circuit(), an_open_circuit(), good, other)
    call = a_call()
    assert (await fetch(call), call.tally.mirror, now()) == (good.answer, 2, 0.0)
    assert other.began == []


@pytest.mark.parametrize("failure", [BROKEN, REFUSED, ABSENT, BUG])
async def test_round_robin_passes_over_nothing_but_open_circuit_breakers(
    failure: Exception,
) -> None:
    other = Mirror((0.0, None))
    assert await result_or_error(in_turn(Mirror((1.0, failure)), other)(a_call())) is failure
    assert other.began == []


async def test_round_robin_over_open_circuit_breakers_raises_the_soonest_retry_after() -> None:
    mirrors = [an_open_circuit(0.75), an_open_circuit(0.25), an_open_circuit(0.5)]
    refusal = await result_leaving_nothing(in_turn(*mirrors)(a_call()))
    assert isinstance(refusal, CircuitOpen)
    assert (refusal.retry_after, now()) == (0.25, 0.0)
    assert attempts_of(*mirrors) == [[0.0]] * 3


async def test_round_robin_over_a_single_mirror_is_that_mirror() -> None:
    mirror = Mirror((0.0, None))
    assert in_turn(mirror) is mirror


# Retry-After


BUSY = UpstreamStatus(503, retry_after=5.0)


def a_call_from(client: bytes) -> Call:
    return a_call(replace(a_context(100.0), headers=((b"authorization", client),)))


async def mirrors_asked(fetch: Fetch, calls: int, client: bytes = b"") -> list[int]:
    """The mirror that each of so many calls ended with."""
    made = [a_call_from(client) for _ in range(calls)]
    for call in made:
        await result_or_error(fetch(call))
    return [call.tally.mirror for call in made]


@pytest.mark.parametrize("failure", [BUSY, TooManyRequests("fewer", retry_after=5.0)])
async def test_round_robin_asks_a_mirror_last_until_its_retry_after_is_over(
    failure: Failure,
) -> None:
    fetch = in_turn(Mirror((0.0, failure), (0.0, None)), Mirror((0.0, None)), Mirror((0.0, None)))
    assert await mirrors_asked(fetch, 1) == [0]
    assert 0 not in await mirrors_asked(fetch, 12)
    await asyncio.sleep(4.999)
    assert 0 not in await mirrors_asked(fetch, 12)
    await asyncio.sleep(0.001)
    assert await mirrors_asked(fetch, 5) == [1, 2, 0, 1, 2]


async def test_round_robin_retry_after_holds_for_the_calls_with_the_same_headers_alone() -> None:
    """Whose quota it was is not known."""
    fetch = in_turn(Mirror((0.0, BUSY), (0.0, None)), Mirror((0.0, None)))
    assert await mirrors_asked(fetch, 1, b"one") == [0]
    assert await mirrors_asked(fetch, 4, b"one") == [1, 1, 1, 1]
    assert await mirrors_asked(fetch, 4, b"another") == [1, 0, 1, 0]


async def test_round_robin_asks_mirrors_in_their_turn_if_all_of_them_said_retry_after() -> None:
    fetch = in_turn(Mirror((0.0, BUSY)), Mirror((0.0, BUSY)))
    assert await mirrors_asked(fetch, 6) == [0, 1, 0, 1, 0, 1]


async def test_round_robin_passes_over_an_open_circuit_breaker_to_a_mirror_with_retry_after() -> (
    None
):
    fetch = in_turn(an_open_circuit(), Mirror((0.0, BUSY), (0.0, None)))
    assert await mirrors_asked(fetch, 3) == [1, 1, 1]


@pytest.mark.parametrize(
    "failure",
    [
        UpstreamStatus(503),
        Overloaded("no capacity of ours", retry_after=5.0),
        CircuitOpen("resting", retry_after=5.0),
    ],
)
async def test_round_robin_does_not_pause_a_mirror_that_said_no_retry_after_itself(
    failure: Failure,
) -> None:
    turns, call = RoundRobin(2, now), a_call()
    turns.on_failure(0, call, failure)
    assert [next(turns.order(a_call())) for _ in range(4)] == [0, 1, 0, 1]
    assert turns.has_other(call)


async def test_round_robin_has_another_mirror_unless_all_said_retry_after_or_there_is_one() -> None:
    call, other = a_call_from(b"one"), a_call_from(b"other")
    turns = RoundRobin(2, now)
    assert turns.has_other(call)
    turns.on_failure(0, call, BUSY)
    assert turns.has_other(call)
    turns.on_failure(1, call, BUSY)
    assert (turns.has_other(call), turns.has_other(other)) == (False, True)
    await asyncio.sleep(5)
    assert turns.has_other(call)
    assert not RoundRobin(1, now).has_other(call)


async def test_round_robin_remembers_a_thousand_pauses_and_forgets_the_oldest() -> None:
    turns = RoundRobin(2, now)
    calls = [a_call_from(b"%d" % number) for number in range(5000)]
    for call in calls:
        turns.on_failure(0, call, BUSY)
        turns.on_failure(0, calls[-1], BUSY)  # again and again, so it is one of the newest
    assert len(turns._pauses) == 1024
    assert [next(turns.order(call)) for call in (calls[-1], calls[-2])] == [1, 1]
    assert {next(turns.order(calls[0])) for _ in range(2)} == {0, 1}


PauseSteps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0]),
        st.integers(0, 2),
        st.sampled_from([b"one", b"other"]),
        st.sampled_from([None, 0.0, 1.0, 5.0]),
    ),
    max_size=40,
)


@given(PauseSteps, st.integers(1, 3))
def test_round_robin_order_is_that_of_a_naive_reference(
    steps: Sequence[tuple[float, int, bytes, float | None]], mirrors: int
) -> None:
    async def main() -> None:
        turns = RoundRobin(mirrors, now)
        said: dict[tuple[int, bytes], tuple[float, float]] = {}
        for number, (pause, mirror, client, retry_after) in enumerate(steps):
            await asyncio.sleep(pause)
            call = a_call_from(client)
            order = list(islice(turns.order(call), 2 * mirrors))
            assert order[:mirrors] == order[mirrors:]
            paused = {
                one
                for (one, whose), (at, seconds) in said.items()
                if whose == client and now() - at < seconds
            }
            in_their_turn = [(number + n) % mirrors for n in range(mirrors)]
            assert order[:mirrors] == [
                *(one for one in in_their_turn if one not in paused),
                *(one for one in in_their_turn if one in paused),
            ]
            assert turns.has_other(call) is (mirrors > 1 and len(paused) < mirrors)
            if retry_after is not None:
                turns.on_failure(
                    mirror % mirrors, call, UpstreamStatus(503, retry_after=retry_after)
                )
                said[mirror % mirrors, client] = now(), retry_after

    on_virtual_time(main)


async def test_round_robin_goes_on_with_the_mirror_after_the_last_one_that_a_call_has_asked() -> (
    None
):
    async def answer(_: Call) -> Answer:
        return an_answer()

    call = a_call()
    call.tally.mirror = 1
    await in_turn(answer, answer, answer)(call)
    assert call.tally.mirror == 2
