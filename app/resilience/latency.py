"""What an upstream's attempts take nowadays: the yardstick of retries, hedges and queues."""

from collections import deque

_WINDOW = 128
"""Attempts. Few enough that a change shows within 64, enough to see one in twenty."""
_MIN_SAMPLES = 20
"""Attempts before there are percentiles: fewer have no 95th."""
_RECOMPUTED = 16
"""Percentiles are taken anew when this part of the window is: sorting costs more than adding."""
_BASELINE_DRIFT = 1.002
"""By how much the baseline rises each time: it doubles within some 2 800 slower attempts."""


class Latency:
    """Live percentiles over the last attempts of one upstream, in seconds; None while unknown."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_WINDOW)
        self._since_recomputed = 0
        self.p50: float | None = None
        self.p95: float | None = None
        self.baseline = 0.0
        """The median in good times: what `p50` is measured against when the upstream is slow."""

    @property
    def typical_max(self) -> float:
        """The time in which most attempts end, 0 while unknown.

        The p95 of a steady upstream; with a heavy tail twice the median, because a call that has
        less time than the tail takes has good prospects all the same.
        """
        if self.p50 is None or self.p95 is None:
            return 0.0
        return min(self.p95, 2 * self.p50)

    def add(self, seconds: float) -> None:
        """Count an attempt that took `seconds`."""
        self._recent.append(seconds)
        self._since_recomputed += 1
        known = len(self._recent)
        if known >= _MIN_SAMPLES and self._since_recomputed * _RECOMPUTED >= known:
            self._recompute()

    def add_unfinished(self, seconds: float) -> None:
        """Count one that was given up after `seconds`, if that says anything.

        It would have taken longer, nobody knows how much; from the median on it is known to belong
        there. Where all that is slow is given up, nothing else would show it.
        """
        if self.p50 is not None and seconds >= self.p50:
            self.add(seconds)

    def _recompute(self) -> None:
        ordered = sorted(self._recent)
        self.p50 = ordered[len(ordered) // 2]
        self.p95 = ordered[len(ordered) * 95 // 100]
        if self.baseline:
            self.baseline = min(self.p50, self.baseline * _BASELINE_DRIFT)
        else:
            self.baseline = self.p50
        self._since_recomputed = 0
