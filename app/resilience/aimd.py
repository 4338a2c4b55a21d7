"""How many attempts an upstream can bear at once, learnt from how long they take.

Additive increase, multiplicative decrease, as TCP finds the bandwidth of a path (Jacobson,
"Congestion Avoidance and Control", 1988) and Netflix's concurrency-limits the capacity of a
server. More attempts in flight than an upstream works on only wait there, until all time out.
"""

from app.resilience.latency import Latency

_DECREASE = 0.75
_LEAST = 4.0
"""Enough to notice when the upstream is well again."""


class AdaptiveLimit:
    """Permits from `ceiling` down to a few.

    An attempt is late, and the limit falls, when it takes half of the `timeout` (seconds) and twice
    the usual. An upstream that always takes so long is merely slow, and fewer attempts would not
    make it faster.
    """

    def __init__(self, ceiling: int, latency: Latency, timeout: float) -> None:
        self.ceiling = ceiling
        self.permits = ceiling
        self._exact = float(ceiling)
        self._latency = latency
        self._timeout = timeout
        self._fell = float("-inf")

    def ended(self, began: float, now: float, in_flight: int) -> None:
        """Learn from an attempt that ended, however it did; `in_flight` with it.

        While most permits lie idle, their number is not what makes an attempt quick or slow.
        """
        if 2 * in_flight < self.permits:
            return
        late = min(max(self._timeout / 2, 2 * self._latency.usual), 0.99 * self._timeout)
        if now - began >= late:
            # All that were in flight with the first late one are late as well: one fall for all.
            if began > self._fell:
                self._fell = now
                self._set(max(self._exact * _DECREASE, min(_LEAST, self.ceiling)))
        elif self.permits < self.ceiling:
            # One more for each round of permits.
            self._set(min(self._exact + 1 / self._exact, self.ceiling))

    def _set(self, permits: float) -> None:
        self._exact = permits
        self.permits = int(permits)
