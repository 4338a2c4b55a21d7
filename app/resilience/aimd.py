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
        self.limit = ceiling
        self.answers = 0
        """How many attempts were answered so far."""
        self._exact = float(ceiling)
        self._regained = 0.0
        self._fell = float("-inf")
        self._latency = latency
        self._timeout = timeout

    def on_sample(
        self, began: float, now: float, in_flight: int, *, answered: bool, meanwhile: int
    ) -> None:
        """Learn from an attempt that ended, `answered` or not; `in_flight` with it.

        `meanwhile` others were answered. By Little's law, that many at most can be in flight if
        each is to take no longer than that. While most permits lie idle, their number is not what
        makes an attempt quick or slow.
        """
        self.answers += answered
        if 2 * in_flight < self.limit:
            return
        late = min(max(self._timeout / 2, 2 * self._latency.baseline), 0.99 * self._timeout)
        if now - began >= late:
            # All that were in flight with the first late one are late as well: one fall for all.
            if began > self._fell:
                self._fell = now
                # A silence says nothing of what the upstream bears once it is over.
                self._regained = 0.0 if meanwhile else self._exact / 2
                bears = meanwhile * late / (now - began)
                self._set(max(min(self._exact * _DECREASE, bears), min(_LEAST, self.ceiling)))
        elif answered and self.limit < self.ceiling:
            # One more for each round of permits; after a silence, for each answer at first.
            step = 1.0 if self._exact < self._regained else 1 / self._exact
            self._set(min(self._exact + step, self.ceiling))

    def _set(self, permits: float) -> None:
        self._exact = permits
        self.limit = int(permits)
