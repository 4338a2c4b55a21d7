"""The circuit breaker's decisions: a mirror that fails half of the time is left alone for a while.

Nygard, *Release It!*, "Circuit Breaker"; generations after sony/gobreaker. A state machine that
takes `now` and does nothing by itself; the layer `circuit_breaker` drives it.

    closed ──the last twenty failed, half of more, or three where another mirror is closed──> open
    open ──after a second──> half-open: one call goes through, the probe
    half-open ──it succeeds──> closed    ──it fails──> open    ──it is ignored──> the next probe
"""

from collections import deque
from typing import Literal, NamedTuple

State = Literal["closed", "open", "half_open"]

_FAILURE_RATIO = 0.5
_MIN_RESULTS = 20
"""Results before they say anything. If all of them failed, it matters no more what was before: in
steady traffic, an outage would else have to outweigh the good results of the whole window."""
_MIN_IN_A_ROW = 3
"""Failures without a success between them: evidence enough to prefer another mirror, which costs
nothing if it is wrong. At night, twenty results would take minutes."""
_WINDOW_SECONDS = 10.0
_MAX_RESULTS = 100
"""In the window: at a thousand a second, an outage must not wait for five thousand results."""
_OPEN_SECONDS = 1.0
"""One probe a second costs an upstream nothing, and its return is noticed within one."""


class Permit(NamedTuple):
    """Leave to ask the mirror, of one generation; a `probe` decides whether the breaker closes.

    That of a `suspect` closes it if it is good, and says nothing if it fails.
    """

    generation: int
    probe: bool
    suspect: bool = False


class Breaker:
    """The state machine of one mirror. Times are seconds of any one clock that never goes back."""

    def __init__(self) -> None:
        self._generation = 0
        self._results: deque[tuple[float, bool]] = deque()
        self._failures = 0
        self._in_a_row = 0
        self._opened: float | None = None
        self._probing = False
        self._probed = 0.0
        self._next_suspect = 0.0

    def state(self, now: float) -> State:
        if self._opened is None:
            return "closed"
        return "half_open" if now >= self._opened + _OPEN_SECONDS else "open"

    def retry_after(self, now: float) -> float:
        """Seconds until a call may go through."""
        if self._opened is None:
            return 0.0
        left = self._opened + _OPEN_SECONDS - now
        return left if left > 0 else _OPEN_SECONDS if self._probing else 0.0

    def try_acquire(self, now: float, *, suspect: bool = False) -> Permit | None:
        """Leave to ask the mirror; None if it may not be asked.

        A `suspect` may fail whatever the mirror does. It is no probe for the others, and does not
        hold theirs up; one a second may go through beside them, as perhaps there are no others.
        """
        if self._opened is None:
            return Permit(self._generation, probe=False)
        under_way = now < self._next_suspect if suspect else self._probing
        if under_way or now < self._opened + _OPEN_SECONDS:
            return None
        if suspect:
            self._next_suspect = now + _OPEN_SECONDS
        else:
            self._probing, self._probed = True, now
        return Permit(self._generation, probe=True, suspect=suspect)

    def on_success(self, permit: Permit, now: float) -> State | None:
        """Count a good result. Gives the new state, if it changes by it."""
        if permit.generation != self._generation:
            return None
        if self._opened is not None:
            return self._to_new_generation(None)
        self._in_a_row = 0
        self._count(now, failed=False)
        return None

    def on_failure(self, permit: Permit, now: float, *, alternative: bool = False) -> State | None:
        """Count a bad result. Gives the new state, if it changes by it.

        `alternative`: another mirror may be asked in place of this one.
        """
        if permit.generation != self._generation:
            return None
        if self._opened is not None:
            # As of when it was sent: one that has waited long does not put off the next one.
            return None if permit.suspect else self._to_new_generation(self._probed)
        self._in_a_row += 1
        self._count(now, failed=True)
        return self._to_new_generation(now) if self._is_down(alternative) else None

    def on_ignored(self, permit: Permit) -> None:
        """The call ended in a way that says nothing of the mirror: it counts neither way."""
        if permit.generation == self._generation and not permit.suspect:
            self._probing = False

    def _is_down(self, alternative: bool) -> bool:
        if alternative and self._in_a_row >= _MIN_IN_A_ROW:
            return True
        seen = len(self._results)
        if seen < _MIN_RESULTS:
            return False
        return self._in_a_row >= _MIN_RESULTS or self._failures >= _FAILURE_RATIO * seen

    def _to_new_generation(self, opened: float | None) -> State:
        # Calls that began before are of another generation: their results do not count any more.
        self._generation += 1
        self._opened = opened
        self._probing = False
        self._results.clear()
        self._failures = self._in_a_row = 0
        return "closed" if opened is None else "open"

    def _count(self, now: float, failed: bool) -> None:
        results = self._results
        results.append((now, failed))
        self._failures += failed
        while len(results) > _MAX_RESULTS or results[0][0] < now - _WINDOW_SECONDS:
            self._failures -= results.popleft()[1]
