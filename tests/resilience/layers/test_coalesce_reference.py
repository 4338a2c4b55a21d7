import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Header, Key
from app.errors import Timeout
from tests.fakes import an_answer, leaving_nothing, now, on_virtual_time, result_or_error
from tests.resilience.layers.flights import a_call_until, coalesced


@dataclass(frozen=True)
class Waiter:
    """Times in hundredths of a second: arrivals at .00, departures at .25, deadlines at .75.

    Flights take .37 more than full seconds: no two events are at the same time, where their order
    would be undefined. Waiters with the same `token` make equal calls.
    """

    arrives: int
    leaves: int | None
    deadline: int
    token: int

    @property
    def headers(self) -> tuple[Header, ...]:
        return ((b"authorization", b"%d" % self.token),)


@st.composite
def some_waiters(draw: st.DrawFn) -> list[Waiter]:
    waiters = []
    for second in draw(st.lists(st.integers(0, 12), unique=True, max_size=8)):
        arrives = second * 100
        leaves = draw(st.none() | st.integers(0, 6))
        waiters.append(
            Waiter(
                arrives,
                None if leaves is None else arrives + leaves * 100 + 25,
                arrives + draw(st.integers(0, 8)) * 100 + 75,
                draw(st.integers(0, 1)),
            )
        )
    return waiters


Results = dict[Waiter, tuple[str, int]]


def expected(waiters: Sequence[Waiter], seconds: Sequence[int]) -> Results:
    """The reference: what each of `waiters` with one token gets, and when.

    It goes through time by hundredths of a second.
    """
    results: Results = {}
    joined: list[Waiter] = []
    flights = flight_ends = leader_deadline = 0

    def join(waiter: Waiter) -> None:
        nonlocal flights, flight_ends, leader_deadline
        if not joined:
            flight_ends = time + seconds[flights % len(seconds)] * 100 + 37
            leader_deadline = waiter.deadline
            flights += 1
        joined.append(waiter)

    for time in range(3000):
        if joined and time == flight_ends:
            results |= dict.fromkeys(joined, (f"answer {flights}", time))
            joined.clear()
        without_flight = []
        for waiter in list(joined):
            if time in (waiter.leaves, waiter.deadline):
                results[waiter] = ("left" if time == waiter.leaves else "late", time)
                joined.remove(waiter)
        if time == leader_deadline:
            without_flight = list(joined)
            joined.clear()
        for waiter in without_flight + [one for one in waiters if one.arrives == time]:
            join(waiter)
    return results


@given(some_waiters(), st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_coalesced_waiters_get_the_results_of_a_naive_reference_at_the_same_times(
    waiters: list[Waiter], seconds: list[int]
) -> None:
    results: Results = {}
    in_flight, flights = Counter[Key](), Counter[Key]()

    async def upstream(call: Call) -> Answer:
        key = call.key
        in_flight[key] += 1
        flights[key] += 1
        assert in_flight[key] == 1
        json, deadline = b"%s %d" % (key[2][0][1], flights[key]), call.context.deadline
        end = now() + seconds[(flights[key] - 1) % len(seconds)] + 0.37
        try:
            await asyncio.sleep(min(end, deadline) - now())
        finally:
            in_flight[key] -= 1
        if end > deadline:
            raise Timeout("late")
        return an_answer(json)

    async def main() -> None:
        fetch = coalesced(upstream)

        async def run(waiter: Waiter) -> None:
            await asyncio.sleep(waiter.arrives / 100)
            call = a_call_until(waiter.deadline / 100, waiter.headers)
            task = asyncio.ensure_future(fetch(call))
            left = inf if waiter.leaves is None else waiter.leaves / 100 - now()
            await asyncio.wait([task], timeout=min(left, 100))
            task.cancel()
            end = await result_or_error(task)
            match end:
                case Answer(data=data):
                    token, number = data.json.split()
                    assert int(token) == waiter.token
                    result = f"answer {int(number)}"
                case asyncio.CancelledError():
                    result = "left"
                case _:
                    assert isinstance(end, Timeout)
                    result = "late"
            results[waiter] = (result, round(now() * 100))

        async with leaving_nothing():
            await asyncio.gather(*map(run, waiters))
        assert in_flight.total() == 0

    on_virtual_time(main)
    assert results == {
        waiter: result
        for token in (0, 1)
        for waiter, result in expected(
            [one for one in waiters if one.token == token], seconds
        ).items()
    }
