"""Mirrors: which of an upstream's base URLs is asked next."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import count, cycle

from app.call import Answer, Call, Fetch, Header
from app.errors import CircuitOpen, Failure, TooManyRequests, UpstreamStatus

_MAX_PAUSES = 1024
"""The pause that began longest ago is forgotten first."""


class RoundRobin:
    """The order in which a call asks the mirrors: each in its turn.

    A call that was there already goes on with the next one. A mirror that said `Retry-After` comes
    last until then, for those with the same forwarded headers: whose quota it was is not known.
    """

    def __init__(self, mirrors: int, time: Callable[[], float]) -> None:
        self.mirrors = mirrors
        self._starts = count()
        self._time = time
        self._pauses: OrderedDict[tuple[int, tuple[Header, ...]], float] = OrderedDict()

    def order(self, call: Call) -> Iterator[int]:
        last = call.tally.mirror
        first = next(self._starts) if last < 0 else last + 1
        turns = [mirror % self.mirrors for mirror in range(first, first + self.mirrors)]
        if self._pauses:
            turns.sort(key=lambda mirror: self._is_paused(mirror, call))
        return cycle(turns)

    def on_failure(self, mirror: int, call: Call, failure: Failure) -> None:
        """Prefer the others for as long as the mirror said; what we refuse says nothing of it."""
        after = failure.retry_after
        if after is None or not isinstance(failure, UpstreamStatus | TooManyRequests):
            return
        key = mirror, call.context.headers
        self._pauses.pop(key, None)
        self._pauses[key] = self._time() + after
        if len(self._pauses) > _MAX_PAUSES:
            self._pauses.popitem(last=False)

    def has_other(self, call: Call) -> bool:
        """Whether there is a mirror that did not ask this call to come back later."""
        mirrors = range(self.mirrors) if self.mirrors > 1 else ()
        return any(not self._is_paused(mirror, call) for mirror in mirrors)

    def _is_paused(self, mirror: int, call: Call) -> bool:
        return self._pauses.get((mirror, call.context.headers), 0.0) > self._time()


def round_robin(mirrors: Sequence[Fetch], turns: RoundRobin) -> Fetch:
    """Ask one mirror a round, each in its turn, passing over those whose circuit is open."""
    if len(mirrors) == 1:
        return mirrors[0]

    async def asked_in_turn(call: Call) -> Answer:
        refusals: list[Failure] = []
        order = turns.order(call)
        for _ in mirrors:
            call.tally.mirror = mirror = next(order)
            try:
                return await mirrors[mirror](call)
            except CircuitOpen as refusal:
                refusals.append(refusal)
            except Failure as failure:
                turns.on_failure(mirror, call, failure)
                raise
        raise most_telling(refusals)

    return asked_in_turn


def most_telling(failures: Sequence[Failure]) -> Failure:
    """The last one that comes from a mirror, else the circuit that closes first."""
    for failure in reversed(failures):
        if not isinstance(failure, CircuitOpen):
            return failure
    return min(failures, key=lambda refusal: refusal.retry_after or 0.0)
