"""Mirrors: which of an upstream's base URLs is asked next."""

from collections.abc import Iterator, Sequence
from itertools import count

from app.call import Answer, Call, Fetch
from app.errors import CircuitOpen, Failure


class RoundRobin:
    """The order in which a call asks the mirrors: each in its turn.

    A call that was there already goes on with the next one.
    """

    def __init__(self, mirrors: int) -> None:
        self._mirrors = mirrors
        self._starts = count()

    def order(self, call: Call) -> Iterator[int]:
        last = call.tally.mirror
        first = next(self._starts) if last < 0 else last + 1
        return (mirror % self._mirrors for mirror in count(first))


def round_robin(mirrors: Sequence[Fetch]) -> Fetch:
    """Ask one mirror a round, each in its turn, passing over those whose circuit is open."""
    if len(mirrors) == 1:
        return mirrors[0]
    turns = RoundRobin(len(mirrors))

    async def asked_in_turn(call: Call) -> Answer:
        refusals: list[Failure] = []
        order = turns.order(call)
        for _ in mirrors:
            call.tally.mirror = mirror = next(order)
            try:
                return await mirrors[mirror](call)
            except CircuitOpen as refusal:
                refusals.append(refusal)
        raise most_telling(refusals)

    return asked_in_turn


def most_telling(failures: Sequence[Failure]) -> Failure:
    """The last one that comes from a mirror, else the circuit that closes first."""
    for failure in reversed(failures):
        if not isinstance(failure, CircuitOpen):
            return failure
    return min(failures, key=lambda refusal: refusal.retry_after or 0.0)
