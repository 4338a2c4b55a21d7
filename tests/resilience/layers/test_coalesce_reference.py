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
    """Times in hundredths of a second: calls at .00, departures at .25, deadlines at .70 to .78.

    Flights take .37 more than full seconds: no two events are at the same time, where their order
    would be undefined. Waiters with the same `token` make equal calls. The request of one `arrived`
    some time before it calls; with `no_cache`, it joins nothing that began before that.
    """

    calls: int
    leaves: int | None
    deadline: int
    token: int
    arrived: int
    no_cache: bool

    @property
    def headers(self) -> tuple[Header, ...]:
        return ((b"authorization", b"%d" % self.token),)


@st.composite
def some_waiters(draw: st.DrawFn) -> list[Waiter]:
    waiters = []
    for number, second in enumerate(draw(st.lists(st.integers(0, 12), unique=True, max_size=8))):
        calls = second * 100
        leaves = draw(st.none() | st.integers(0, 6))
        waiters.append(
            Waiter(
                calls,
                None if leaves is None else calls + leaves * 100 + 25,
                calls + draw(st.integers(0, 8)) * 100 + 70 + number,
                draw(st.integers(0, 1)),
                calls - draw(st.sampled_from([0, 50, 150, 350])),
                draw(st.booleans()),
            )
        )
    return waiters


Results = dict[Waiter, tuple[str, int]]


@dataclass
class Flight:
    number: int
    began: int
    ends: int
    leader_deadline: int
    joined: list[Waiter]


def expected(waiters: Sequence[Waiter], seconds: Sequence[int]) -> Results:
    """The reference: what each of `waiters` with one token gets, and when.

    It goes through time by hundredths of a second.
    """
    results: Results = {}
    flights: list[Flight] = []

    def join(waiter: Waiter) -> None:
        newest = flights[-1] if flights else None
        if (
            newest is None
            or not newest.joined
            or (waiter.no_cache and newest.began < waiter.arrived)
        ):
            ends = time + seconds[len(flights) % len(seconds)] * 100 + 37
            newest = Flight(len(flights) + 1, time, ends, waiter.deadline, [])
            flights.append(newest)
        newest.joined.append(waiter)

    for time in range(3000):
        without_flight = []
        for flight in flights:
            if time == flight.ends:
                results |= dict.fromkeys(flight.joined, (f"answer {flight.number}", time))
                flight.joined.clear()
            for waiter in list(flight.joined):
                if time in (waiter.leaves, waiter.deadline):
                    results[waiter] = ("left" if time == waiter.leaves else "late", time)
                    flight.joined.remove(waiter)
            if time == flight.leader_deadline:
                without_flight += flight.joined
                flight.joined.clear()
        for waiter in without_flight + [one for one in waiters if one.calls == time]:
            join(waiter)
    return results


@given(some_waiters(), st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_coalesced_waiters_get_the_results_of_a_naive_reference_at_the_same_times(
    waiters: list[Waiter], seconds: list[int]
) -> None:
    results: Results = {}
    in_flight, flights = Counter[Key](), Counter[Key]()
    shared_by_all = not any(waiter.no_cache for waiter in waiters)

    async def upstream(call: Call) -> Answer:
        key = call.key
        in_flight[key] += 1
        flights[key] += 1
        assert in_flight[key] == 1 or not shared_by_all
        json, deadline = (
            b"%s %d" % (call.context.headers[0][1], flights[key]),
            call.context.deadline,
        )
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
            await asyncio.sleep(waiter.calls / 100)
            call = a_call_until(
                waiter.deadline / 100,
                waiter.headers,
                arrived=waiter.arrived / 100,
                no_cache=waiter.no_cache,
            )
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
