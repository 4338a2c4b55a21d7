"""How many attempts an upstream can bear at once, learnt from how long they take.

Additive increase, multiplicative decrease, as TCP finds the bandwidth of a path (Jacobson,
"Congestion Avoidance and Control", 1988) and Netflix's concurrency-limits the capacity of a
server. More attempts in flight than an upstream works on only wait there, until all time out.
"""

from collections.abc import Callable

from app.resilience.latency import Latency

_DECREASE = 0.75
_MIN_LIMIT = 4.0
"""Enough to notice when the upstream has recovered."""
_FORGOTTEN_SECONDS = 25.0
"""In which a limit that did not fall any more is back at the ceiling, whatever the traffic: a few
calls an hour would never show that the upstream has recovered, and the next burst would be shed.
Step by step, as what grows by a factor keeps its lead over another limit on the same server for
ever (Chiu & Jain, "Analysis of the Increase and Decrease Algorithms", 1989)."""


class AdaptiveLimit:
    """A `limit` of attempts in flight, from `ceiling` down to a few.

    An attempt is late, and the limit falls, when it takes half of the `timeout` (seconds) and twice
    the baseline. An upstream that always takes so long is merely slow, and fewer attempts would not
    make it faster. `time` is a clock in seconds that never goes back.
    """

    def __init__(
        self, ceiling: int, latency: Latency, timeout: float, time: Callable[[], float]
    ) -> None:
        self.ceiling = ceiling
        self.answers = 0
        """How many attempts were answered so far."""
        self._exact = float(ceiling)
        self._fast_until = 0.0
        """The limit up to which each answer adds one: what was lost to a silence."""
        self._last_decrease = float("-inf")
        self._grown_at = 0.0
        self._latency = latency
        self._timeout = timeout
        self._time = time

    @property
    def limit(self) -> int:
        if self._exact < self.ceiling:
            self._grow_with_time()
        return int(self._exact)

    def on_sample(
        self, began: float, now: float, in_flight: int, *, answered: bool, meanwhile: int
    ) -> None:
        """Learn from an attempt that ended, `answered` or not; `in_flight` with it.

        `meanwhile` others were answered. While most permits lie idle, their number is not what
        makes an attempt quick or slow.
        """
        self.answers += answered
        if 2 * in_flight < self.limit:
            return
        late = self._late_after()
        if now - began < late:
            if answered:
                self._increase()
        # All that were in flight with the first late one are late as well: one fall for all.
        elif began > self._last_decrease:
            self._last_decrease = self._grown_at = now
            self._decrease(meanwhile, bearable=meanwhile * late / (now - began))

    def _late_after(self) -> float:
        """Seconds; below the timeout, so that an attempt that timed out is always late."""
        return min(max(self._timeout / 2, 2 * self._latency.baseline), 0.99 * self._timeout)

    def _decrease(self, meanwhile: int, bearable: float) -> None:
        """Fall by a share, or to what is `bearable`.

        By Little's law, no more can be in flight than were answered in the time that each may take.
        """
        # After a silence nothing is known of what the upstream bears once it is over.
        self._fast_until = 0.0 if meanwhile else self._exact / 2
        self._exact = max(min(self._exact * _DECREASE, bearable), min(_MIN_LIMIT, self.ceiling))

    def _increase(self) -> None:
        """By one for each round of permits; after a silence by one for each answer at first."""
        if self.limit < self.ceiling:
            step = 1.0 if self._exact < self._fast_until else 1 / self._exact
            self._exact = min(self._exact + step, self.ceiling)

    def _grow_with_time(self) -> None:
        now = self._time()
        grown = self.ceiling * (now - self._grown_at) / _FORGOTTEN_SECONDS
        self._grown_at = now
        self._exact = min(self._exact + grown, self.ceiling)
