"""What an upstream's good answers take nowadays: the yardstick of retries, hedges and queues.

What was learnt in a slow spell must not outlive it: samples are forgotten by number and by age.
"""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_WINDOW = 128
"""Answers. Few enough that a change shows within 64, enough to see one in twenty."""
_WINDOW_SECONDS = 25.0
"""At one answer a second, enough of them for percentiles."""
_RECENT = 32
"""Answers that the median is taken of: after so many good ones, a slow spell is over."""
_MIN_SAMPLES = 20
"""Answers before there are percentiles: fewer have no 95th."""
_RECOMPUTED = 16
"""Percentiles are taken anew when this part of the window is: sorting costs more than adding."""
_BASELINE_DRIFT = 1.002
"""By how much the baseline rises each time: it doubles within some 2 800 slower answers."""
_UNUSUAL = 2.0
"""Times the slowest recent answer."""


class _Sample(NamedTuple):
    at: float
    seconds: float
    finished: bool


class Latency:
    """Live percentiles over the last good answers of one upstream, in seconds; None while unknown.

    `time` is a clock in seconds that never goes back.
    """

    def __init__(self, time: Callable[[], float] = lambda: 0.0) -> None:
        self._time = time
        self._samples: deque[_Sample] = deque(maxlen=_WINDOW)
        self._since_recomputed = 0
        self._known_until = 0.0
        self._p50: float | None = None
        self._p95: float | None = None
        self._slowest: float | None = None
        self.baseline = 0.0
        """The median in good times: what `p50` is measured against when the upstream is slow."""

    @property
    def p50(self) -> float | None:
        return self._p50 if self._time() < self._known_until else None

    @property
    def p95(self) -> float | None:
        return self._p95 if self._time() < self._known_until else None

    @property
    def typical_max(self) -> float:
        """The time in which most answers come, 0 while unknown.

        The p95 of a steady upstream; with a heavy tail twice the median, because a call that has
        less time than the tail takes has good prospects all the same.
        """
        p50, p95 = self.p50, self.p95
        return 0.0 if p50 is None or p95 is None else min(p95, 2 * p50)

    @property
    def unusual(self) -> float | None:
        """A time that is clearly more than any recent answer took; None while unknown.

        The slowest counts, not a percentile: answers of one kind may be quick (a 304, a small list)
        and say nothing of the others. What was given up is no answer: where all that hangs is given
        up, nothing would be unusual any more.
        """
        if self._slowest is None or self._time() >= self._known_until:
            return None
        return _UNUSUAL * self._slowest

    def add(self, seconds: float) -> None:
        """Count an answer that took `seconds`."""
        self._add(seconds, finished=True)

    def add_unfinished(self, seconds: float) -> None:
        """Count an attempt that was given up after `seconds`, if that says anything.

        It would have taken longer, nobody knows how much; from the median on it is known to belong
        there. Where all that is slow is given up, nothing else would show it.
        """
        p50 = self.p50
        if p50 is not None and seconds >= p50:
            self._add(seconds, finished=False)

    def _add(self, seconds: float, *, finished: bool) -> None:
        now = self._time()
        samples = self._samples
        samples.append(_Sample(now, seconds, finished))
        while samples[0].at <= now - _WINDOW_SECONDS:
            samples.popleft()
        self._since_recomputed += 1
        known = len(samples)
        if known >= _MIN_SAMPLES and self._since_recomputed * _RECOMPUTED >= known:
            self._recompute(now)

    def _recompute(self, now: float) -> None:
        seconds = [sample.seconds for sample in self._samples]
        recent = sorted(seconds[-_RECENT:])
        self._p50 = recent[len(recent) // 2]
        seconds.sort()
        self._p95 = max(seconds[len(seconds) * 95 // 100], self._p50)
        self._slowest = max((one.seconds for one in self._samples if one.finished), default=None)
        if self.baseline:
            self.baseline = min(self._p50, self.baseline * _BASELINE_DRIFT)
        else:
            self.baseline = self._p50
        self._since_recomputed = 0
        self._known_until = now + _WINDOW_SECONDS
