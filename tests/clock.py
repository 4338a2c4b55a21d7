"""A virtual clock for asyncio: when every task waits, time jumps to the next timer.

A test that waits for thirty seconds ends at once, and its times are exact.
"""

import asyncio
import selectors


class _Jump(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For tests without sockets or threads: it waits for timers only."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


VIRTUAL = ("asyncio", {"loop_factory": VirtualLoop})
