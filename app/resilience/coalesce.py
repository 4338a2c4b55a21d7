"""Coalescing: equal calls in flight share one, as waiters of one flight.

A flight belongs to nobody: it is its own task, and ends when its last waiter leaves, whoever
came first. Calls that differ in a forwarded header are not equal, so nobody travels on the
credentials of somebody else.
"""

import asyncio
from dataclasses import dataclass, field

from app.errors import Failure, Overloaded, Timeout, TooManyRequests
from app.resilience.call import Answer, Call, Context, Fetch, Key, Layer
from app.resilience.ending import end
from app.resilience.events import Coalesced, Emit
from app.resilience.latency import Latency

_EARLY = 0.005
"""Seconds by which a timer may go off before its time, on a loop that counts milliseconds."""


@dataclass(slots=True, eq=False)
class _Flight:
    call: Call
    """The first waiter's: its deadline, request id and fan-out are those of the flight."""
    before: tuple[int, int, int]
    """Attempts, retries and hedges that the first waiter had behind it at take-off."""
    task: asyncio.Task[Answer] = field(init=False)
    waiters: int = 0


def coalesce(latency: Latency, emit: Emit) -> Layer:
    """Share what is in flight already. A waiter leaves at its own deadline, with `Timeout`.

    When a flight ends because its first waiter's time was up, or could not get a permit in it,
    whoever has more time joins another.
    """

    def layer(fetch: Fetch) -> Fetch:
        flights = _Flights(fetch)
        time = asyncio.get_running_loop().time

        async def coalesced(call: Call) -> Answer:
            while True:
                flight = flights.of(call)
                fly = flights.join if flight.call is call else shared
                try:
                    return await fly(flight, call)
                except TooManyRequests:
                    raise  # whoever asks again now is one more
                except (Timeout, Overloaded) as failure:
                    soon = time() + latency.typical_max + _EARLY
                    if not _leader_ran_out_of_time(
                        flight.call.context, call.context, failure, soon
                    ):
                        raise

        async def shared(flight: _Flight, call: Call) -> Answer:
            call.tally.coalesced = True
            began = time()
            try:
                answer = await flights.join(flight, call)
            except Failure as failure:
                emit(Coalesced(call, time() - began, failure))
                raise
            except asyncio.CancelledError:
                emit(Coalesced(call, time() - began, None, left=True))
                raise
            emit(Coalesced(call, time() - began, None))
            return answer

        return coalesced

    return layer


class _Flights:
    """What is in flight at one upstream."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._flights: dict[Key, _Flight] = {}

    def of(self, call: Call) -> _Flight:
        """The flight that `call` shares, or a new one."""
        key = call.key
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(call, call.tally.cost)
            flight.task = asyncio.create_task(self._flown(flight))
            self._flights[key] = flight
        return flight

    async def join(self, flight: _Flight, call: Call) -> Answer:
        """Fly along until the end or the deadline, and take the flight down if nobody is left."""
        deadline = call.context.deadline
        flight.waiters += 1
        # The flight keeps to its own deadline by itself.
        ours = deadline if deadline < flight.call.context.deadline else None
        try:
            if ours is None:
                return await asyncio.shield(flight.task)
            async with asyncio.timeout_at(ours) as scope:
                return await asyncio.shield(flight.task)
        except TimeoutError:
            if ours is None or not scope.expired():
                raise  # nobody's deadline, but a bug
            raise Timeout("no answer before the deadline") from None
        finally:
            flight.waiters -= 1
            if call is not flight.call:
                _share(flight, call)
            if not flight.waiters and not flight.task.done():
                self._remove(flight)  # nobody joins what is about to be cancelled
                await end([flight.task])

    async def _flown(self, flight: _Flight) -> Answer:
        try:
            return await self._fetch(flight.call)
        finally:
            self._remove(flight)

    def _remove(self, flight: _Flight) -> None:
        key = flight.call.key
        if self._flights.get(key) is flight:
            del self._flights[key]


def _leader_ran_out_of_time(first: Context, ours: Context, failure: Failure, soon: float) -> bool:
    """Whether what ended the flight ended it for its first waiter alone.

    `soon` is when an attempt that begins now would be over.
    """
    if isinstance(failure, Timeout):
        return first.deadline <= soon < ours.deadline
    turned_away = first.overload_wait is not None and ours.overload_wait is None
    return turned_away or first.deadline < ours.deadline


def _share(flight: _Flight, call: Call) -> None:
    """A waiter is told of the whole flight, whenever it joined."""
    theirs, ours = flight.call.tally, call.tally
    attempts, retries, hedges = flight.before
    ours.attempts += theirs.attempts - attempts
    ours.retries += theirs.retries - retries
    ours.hedges += theirs.hedges - hedges
    ours.validated = theirs.validated
