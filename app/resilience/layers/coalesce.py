"""Coalescing (singleflight): equal calls in flight share one.

A flight is a task of its own and belongs to nobody: it ends when its last waiter leaves, whoever
came first. Calls that differ in a forwarded header are not equal, so nobody is answered with the
credentials of somebody else.
"""

import asyncio
from dataclasses import dataclass, field

from app.call import Answer, Call, Context, Emit, Fetch, Key, Layer
from app.errors import Failure, Overloaded, Timeout, TooManyRequests
from app.resilience.events import Coalesced
from app.resilience.latency import Latency
from app.tasks import cancel_and_wait

_EARLY = 0.005
"""Seconds by which a timer may go off before its time, on a loop that counts milliseconds."""


def coalesce(latency: Latency, emit: Emit) -> Layer:
    """Share what is in flight already. A waiter leaves at its own deadline, with `Timeout`.

    When a flight ends because its leader's time was up, or because the leader could not get a
    permit in it, a waiter that has more time joins another flight.
    """

    def layer(fetch: Fetch) -> Fetch:
        flights = _Flights(fetch)
        time = asyncio.get_running_loop().time

        async def coalesced(call: Call) -> Answer:
            while True:
                flight = flights.get_or_start(call)
                try:
                    if flight.leader is call:
                        return await flights.join(flight, call)
                    return await shared(flight, call)
                except Failure as failure:
                    soon = time() + latency.typical_max + _EARLY
                    if not _leader_ran_out_of_time(flight.leader, call.context, failure, soon):
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


@dataclass(slots=True, eq=False)
class _Flight:
    leader: Call
    """The first one: its deadline, request id and fan-out are those of the flight."""
    cost_before: tuple[int, int, int]
    """Attempts, retries and hedges of the leader before the flight."""
    began: float
    task: asyncio.Task[Answer] = field(init=False)
    waiters: int = 0


class _Flights:
    """What is in flight at one upstream."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._time = asyncio.get_running_loop().time
        self._flights: dict[Key, _Flight] = {}

    def get_or_start(self, call: Call) -> _Flight:
        """The flight that `call` shares, or a new one that it leads.

        A call that wants nothing stored has written something, perhaps: what was asked before it
        arrived may not know of that (read-your-writes).
        """
        key, context = call.key, call.context
        flight = self._flights.get(key)
        if flight is None or (context.no_cache and flight.began < context.arrived):
            flight = _Flight(call, call.tally.cost, self._time())
            flight.task = asyncio.create_task(self._fly(flight))
            self._flights[key] = flight
        return flight

    async def join(self, flight: _Flight, call: Call) -> Answer:
        """Wait for the end of the flight or the deadline; the last one to leave cancels it."""
        flight.waiters += 1
        try:
            return await _until_deadline(flight, call.context.deadline)
        finally:
            flight.waiters -= 1
            if call is not flight.leader:
                _share_tally(flight, call)
            if not flight.waiters and not flight.task.done():
                self._remove(flight)  # nobody joins what is about to be cancelled
                await cancel_and_wait([flight.task])

    async def _fly(self, flight: _Flight) -> Answer:
        try:
            return await self._fetch(flight.leader)
        finally:
            self._remove(flight)

    def _remove(self, flight: _Flight) -> None:
        key = flight.leader.key
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _until_deadline(flight: _Flight, deadline: float) -> Answer:
    if deadline >= flight.leader.context.deadline:  # by then, the flight ends by itself
        return await asyncio.shield(flight.task)
    try:
        async with asyncio.timeout_at(deadline) as scope:
            return await asyncio.shield(flight.task)
    except TimeoutError:
        if not scope.expired():
            raise  # nobody's deadline, but a bug
        raise Timeout("no answer before the deadline") from None


def _leader_ran_out_of_time(call: Call, follower: Context, failure: Failure, soon: float) -> bool:
    """Whether what ended the flight of `call`, its leader, ended it for the leader alone.

    `soon` is when an attempt that begins now would be over.
    """
    leader = call.context
    if call.tally.out_of_time and leader.deadline < follower.deadline:
        return True
    match failure:
        case Timeout():
            return leader.deadline <= soon < follower.deadline
        case TooManyRequests():
            return False  # whoever asks again now is one more
        case Overloaded():
            leader_was_shed = leader.admission.overload_wait is not None
            follower_was_shed = follower.admission.overload_wait is not None
            only_leader_was_shed = leader_was_shed and not follower_was_shed
            return only_leader_was_shed or leader.deadline < follower.deadline
    return False


def _share_tally(flight: _Flight, call: Call) -> None:
    """A waiter's tally is that of the whole flight, whenever it joined."""
    theirs, ours = flight.leader.tally, call.tally
    attempts, retries, hedges = flight.cost_before
    ours.attempts += theirs.attempts - attempts
    ours.retries += theirs.retries - retries
    ours.hedges += theirs.hedges - hedges
    ours.validated = theirs.validated
