"""Keys that fail: one resource that breaks its upstream must not take all the others along.

A request that kills its upstream looks like an upstream that is down, to whoever counts failures by
mirror alone (Brooker, "Will circuit breakers solve my problems?", 2022; envoyproxy/envoy#41985). So
failures are counted by key first: only the first few of a window count against a mirror, for the
retry budget or for the limit, and a key that only fails is left alone for a while by itself.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from app.call import Key

_MAX_COUNTED = 3
"""Failures of one key that count for others."""
_WINDOW_SECONDS = 10.0
_MAX_IN_A_ROW = 6
"""Failures without a success between them. One call alone, with its retries, is no pattern yet."""
_PROBE_SECONDS = 1.0
_MAX_KEYS = 4096
"""The key that failed longest ago is forgotten first."""


@dataclass(slots=True)
class _Failing:
    counted: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_COUNTED))
    in_a_row: int = 0
    next_probe: float = 0.0


class KeyFailures:
    """What one upstream's failing keys have done. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._keys: OrderedDict[Key, _Failing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def on_failure(self, key: Key, now: float) -> bool:
        """Count a failed attempt. Says whether it counts for others too."""
        failing = self._keys.get(key)
        if failing is None:
            failing = self._keys[key] = _Failing()
            if len(self._keys) > _MAX_KEYS:
                self._keys.popitem(last=False)
        else:
            self._keys.move_to_end(key)
        failing.in_a_row += 1
        failing.next_probe = now + _PROBE_SECONDS
        if _is_spent(failing, now):
            return False
        failing.counted.append(now)
        return True

    def on_success(self, key: Key, now: float) -> None:
        """The key is well again. What it has counted for others is not forgotten by that."""
        failing = self._keys.get(key)
        if failing is not None:
            failing.in_a_row = 0
            if not failing.counted or failing.counted[-1] <= now - _WINDOW_SECONDS:
                del self._keys[key]

    def is_spent(self, key: Key, now: float) -> bool:
        """Whether the key has counted for others as often as it may for now."""
        if not self._keys:
            return False
        failing = self._keys.get(key)
        return failing is not None and _is_spent(failing, now)

    def may_have_extra(self, key: Key, now: float) -> bool:
        """Whether another attempt may help: not for a key that only fails, and has cost enough."""
        if not self._keys:
            return True
        failing = self._keys.get(key)
        if failing is None or failing.in_a_row < 2:
            return True
        return failing.in_a_row < _MAX_IN_A_ROW and not _is_spent(failing, now)

    def is_quarantined(self, key: Key) -> bool:
        """Whether the key has only failed of late."""
        if not self._keys:
            return False
        failing = self._keys.get(key)
        return failing is not None and failing.in_a_row >= _MAX_IN_A_ROW

    def probe_after(self, key: Key, now: float) -> float:
        """Seconds until a key in quarantine may be asked for again.

        With 0, the caller is the probe: the next one has to wait as long again.
        """
        failing = self._keys[key]
        if now < failing.next_probe:
            return failing.next_probe - now
        failing.next_probe = now + _PROBE_SECONDS
        return 0.0

    def on_nobody_asked(self, key: Key) -> None:
        """A probe did not come to ask: the next one need not wait."""
        failing = self._keys.get(key)
        if failing is not None:
            failing.next_probe = 0.0


def _is_spent(failing: _Failing, now: float) -> bool:
    counted = failing.counted
    return len(counted) == _MAX_COUNTED and counted[0] > now - _WINDOW_SECONDS
