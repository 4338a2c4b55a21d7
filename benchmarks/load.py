"""Load from wrk, and the CPU time that the server spent on it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .process import HOST, BenchmarkError, members

SCRIPT = Path(__file__).with_name("load.lua")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MAX_SECONDS = 60
"""The script ends every healthy round long before."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Which users' overviews are requested."""

    user_ids: range
    skew: float = 0.0
    """The exponent of Zipf's law; with 0 the users take turns."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of load measured."""

    cpu: float
    """Microseconds of CPU time for one overview, over all processes and threads of the server."""
    rate: float
    """Overviews a second."""
    p50: float
    """Milliseconds, as p99."""
    p99: float


def load(
    port: int, pid: int, traffic: Traffic, *, connections: int, seconds: float, repeats: int
) -> Round:
    """Keep `connections` requests in flight; a single error fails the run.

    The load lasts `seconds`, and longer until each connection has had about `repeats` responses.
    """
    options = ["--threads=1", f"--connections={connections}", f"--duration={MAX_SECONDS}"]
    script = ["--script", SCRIPT, f"http://{HOST}:{port}", "--", seconds, connections]
    users = [len(traffic.user_ids), traffic.skew]
    command = ["wrk", *options, "--timeout=30", *script, repeats, *users, *members(pid)]
    words = [str(word) for word in command]
    wrk = subprocess.run(words, capture_output=True, text=True, check=False)
    if wrk.returncode:
        raise BenchmarkError(f"wrk failed:\n{wrk.stdout}{wrk.stderr}")
    report = json.loads(wrk.stdout.splitlines()[-1])
    if report["bad"] or report["broken"] or not report["counted"]:
        raise BenchmarkError(f"errors under load, c={connections}:\n{wrk.stdout}")
    return Round(
        cpu=report["ticks"] / TICKS_PER_SECOND * 1e6 / report["counted"],
        rate=report["counted"] / report["seconds"],
        p50=report["p50"] / 1e3,
        p99=report["p99"] / 1e3,
    )
