"""The queue in front of the application: what this process cannot do in time, it refuses at once.

One thread does all the work. If every request were begun as it arrives, each would get a little of
it, none would be finished by its deadline, and the loop would be behind so far that it could not
even refuse. So only so many are begun in one turn of the loop, the others wait here, and how long
they would have to wait is known: their number times what one costs.

A burst may wait for a good part of its time. When the queue does not empty any more, the service is
overloaded, and only as much waits as keeps it busy (Nichols & Jacobson, "Controlling Queue Delay",
2012; Maurer, "Fail at Scale", 2015).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, process_time

_SLICE = 0.003
"""CPU seconds of requests that are begun in one turn of the loop. So few are in flight that what
one costs does not grow with their number."""
_LONG_TURN = 0.030
"""Seconds. Then what was begun is enough to do: only one more is begun."""
_BURST = 0.5
"""Of a request's time, which it may wait here."""
_STANDING_SECONDS = 1.0
"""Without ever being empty, a queue is no burst any more."""
_STANDING_WAIT = 0.1
"""Seconds that a request may wait in a queue that stands."""
_FIRST_COST = 0.001
_SAMPLED = 50
"""Requests between two looks at the CPU clock."""


class AdmissionQueue:
    """First come, first served. `on_shed` gets a count each second in which requests were shed.

    At most `most` wait here: those who are refused need connections, too.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request_timeout: float,
        most: int,
        on_shed: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._burst_wait = _BURST * request_timeout
        self._most = most
        self._on_shed = on_shed
        self._queue: deque[tuple[Callable[[], None], int]] = deque()
        self._queued_weight = 0
        self._begun_in_turn = 0
        self._empty_at = self._turn_began = perf_counter()
        self._turning = False
        self.cost = _FIRST_COST
        """CPU seconds of an ordinary request, lately, and of refusing others meanwhile."""
        self._ended = 0
        self._cpu = process_time()
        self.shed_lately = 0
        """Requests, since the last report."""

    @property
    def expected_wait(self) -> float:
        """Seconds that a newcomer would wait here."""
        return self._queued_weight * self.cost

    def submit(self, begin: Callable[[], None], weight: int = 1) -> bool:
        """Call `begin` as soon as it is its turn; False if that would be in vain.

        `weight` is what it costs, in ordinary requests.
        """
        if not self._queue:
            self._empty_at = perf_counter()
            if self._begun_in_turn * self.cost < _SLICE:
                self._begin(begin, weight)
                return True
        too_late = self.expected_wait + (weight - 1) * self.cost > self._longest_wait()
        if too_late or len(self._queue) >= self._most:
            self._count_shed()
            return False
        self._queue.append((begin, weight))
        self._queued_weight += weight
        return True

    def on_end(self, weight: int = 1) -> None:
        """A request has been answered that was not shed."""
        self._ended += weight
        if self._ended >= _SAMPLED:
            cpu = process_time()
            sample = (cpu - self._cpu) / self._ended
            self.cost += (sample - self.cost) / 4
            self._ended, self._cpu = 0, cpu

    def begin_all(self) -> None:
        """Wait no longer: the service is about to stop, and finishes what it has."""
        while self._queue:
            self._begin(*self._next())

    def _longest_wait(self) -> float:
        stands = perf_counter() - self._empty_at > _STANDING_SECONDS
        return min(_STANDING_WAIT, self._burst_wait) if stands else self._burst_wait

    def _begin(self, begin: Callable[[], None], weight: int) -> None:
        self._begun_in_turn += weight
        if not self._turning:
            self._turning = True
            self._turn_began = perf_counter()
            self._loop.call_soon(self._turn)
        begin()

    def _next(self) -> tuple[Callable[[], None], int]:
        begin, weight = self._queue.popleft()
        self._queued_weight -= weight
        return begin, weight

    def _turn(self) -> None:
        """Another turn of the loop: begin what there is time for."""
        now = perf_counter()
        room = _SLICE if now - self._turn_began < _LONG_TURN else 0.0
        self._begun_in_turn = 0
        self._turn_began = now
        self._turning = bool(self._queue)
        if self._turning:
            self._loop.call_soon(self._turn)
        while self._queue and self._begun_in_turn * self.cost <= room:
            self._begin(*self._next())
        if not self._queue:
            self._empty_at = now

    def _count_shed(self) -> None:
        if not self.shed_lately:
            self._loop.call_later(1.0, self._report_shed)
        self.shed_lately += 1

    def _report_shed(self) -> None:
        shed, self.shed_lately = self.shed_lately, 0
        self._on_shed(shed)
