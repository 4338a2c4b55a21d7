"""Where log lines go: to standard output, by a thread that may wait where the service must not.

Whoever reads the log may pause, go away, or have no room left on the disk. None of this may reach
an answer: a line is put into a bounded queue, dropped when that is full, and never raises.
"""

import os
import threading
import time
from collections import deque

_MAX_BYTES = 8 * 2**20
"""Of lines that wait to be written."""
_BATCH_SECONDS = 0.02
"""So that a busy service does not switch threads for each line."""


class LogWriter:
    """Writes lines to the file descriptor `descriptor`. What was dropped is counted in a line."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        # Each is written by one thread only, so neither needs a lock.
        self._bytes_queued = 0
        self._bytes_taken = 0
        self._not_queued = 0
        self._not_written = 0
        self._reported = 0
        self._awake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Queue a line. Never waits, never raises."""
        if self._bytes_queued - self._bytes_taken > _MAX_BYTES:
            self._not_queued += 1
            return
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        self._bytes_queued += len(data)
        self._lines.append(data)
        if not self._awake.is_set():
            self._awake.set()

    @property
    def dropped(self) -> int:
        """Lines that nobody will ever read."""
        return self._not_queued + self._not_written

    def close(self, seconds: float) -> None:
        """Write what is left, but wait no longer than `seconds` for whoever reads."""
        self._closing = True
        self._awake.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._closing or self._lines:
            self._awake.wait()
            if not self._closing:
                time.sleep(_BATCH_SECONDS)
            self._awake.clear()
            self._write_all()

    def _write_all(self) -> None:
        lines: list[bytes] = []
        while self._lines:
            lines.append(self._lines.popleft())
        size, dropped = sum(map(len, lines)), self.dropped - self._reported
        report = b'{"event":"log lines dropped","lines":%d,"level":"warning"}\n' % dropped
        if self._write(b"".join([*lines, report] if dropped else lines)):
            self._reported += dropped
        else:
            self._not_written += len(lines)
        self._bytes_taken += size

    def _write(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                time.sleep(_BATCH_SECONDS)
            except OSError:  # the reader has gone, or the disk is full
                return False
        return True
