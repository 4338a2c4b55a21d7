"""What the service still holds: by `/readyz`, and by a dump of its tasks and objects."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from chaos.service import Service

INSPECTABLE = "chaos.inspectable"
"""The module to run instead of `app`, with `CHAOS_DUMP` set to the path of the dump."""

_TIMEOUT = 10.0


def dump(service: Service, path: Path) -> Any:
    """Counts of its `tasks` and `objects` by name.

    This blocks, so the upstreams in this process must have nothing to do meanwhile.
    """
    path.unlink(missing_ok=True)
    os.kill(service.pid, signal.SIGUSR1)
    give_up = perf_counter() + _TIMEOUT
    while not path.exists():
        assert perf_counter() < give_up
        time.sleep(0.02)
    return json.loads(path.read_text())


def increase(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What there is more of than before."""
    difference = Counter(after)
    difference.subtract(before)
    return {name: count for name, count in difference.items() if count > 0}


def holds_permits(health: Mapping[str, Any]) -> bool:
    """Whether an attempt has a permit or a call waits for one, at any upstream."""
    return any(one["permits"]["in_use"] or one["permits"]["queued"] for one in health.values())
