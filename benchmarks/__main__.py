"""`python -m benchmarks`: run every variant in turn and print the cost of an overview."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from .layers import added
from .measure import COLD, HOT, Bench, costs, times
from .process import BenchmarkError
from .report import (
    print_comparison,
    print_costs,
    print_header,
    print_layers,
    print_times,
    shortfalls,
)
from .variants import GATHER, SERVICE, VARIANTS

NEEDED = ("wrk", "nginx")
"""Programs; their Debian packages have the same names."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each variant at each load")
    parser.add_argument("--seconds", type=float, default=3, help="that a round lasts, at least")
    parser.add_argument("--check", action="store_true", help="exit 1 if the service misses a goal")
    parser.add_argument(
        "--against",
        type=_checkout,
        metavar="PATH",
        help="compare this service with that of another checkout, and nothing else",
    )
    options = parser.parse_args()

    os.environ["PATH"] += ":/usr/sbin"  # where Debian has nginx; few users' PATH includes it
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        print(f"missing {', '.join(missing)}: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("two cores are needed: one for the server, one for its load", file=sys.stderr)
        return 2
    load_core, core = cores[:2]
    os.sched_setaffinity(0, {load_core})
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.default_int_handler)

    print_header(options.rounds, options.seconds)
    try:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            bench = Bench(core, load_core, Path(name), options.rounds, options.seconds)
            missed = _against(options.against, bench) if options.against else _all(bench)
    except BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 1 if options.check and missed else 0


def _all(bench: Bench) -> list[str]:
    """Print every measurement, and return the goals that were missed."""
    layers = added()
    print_layers(layers)
    cold = costs(COLD, VARIANTS, bench)
    print_costs(COLD.title, cold)
    hot = costs(HOT, (GATHER, SERVICE), bench)
    print_costs(HOT.title, hot)
    time = times(bench)
    print_times(time)
    missed = shortfalls(layers, cold, hot, time)
    print("\n".join(missed) if missed else "All goals are met.")
    return missed


def _against(root: Path, bench: Bench) -> list[str]:
    """Print the service at `root` beside this one; there are no goals to miss."""
    other = replace(SERVICE, name="other checkout", root=root)
    for workload in (COLD, HOT):
        measured = costs(workload, (SERVICE, other), bench)
        print_comparison(workload.title, measured, SERVICE, other)
    return []


def _checkout(path: str) -> Path:
    root = Path(path).resolve()
    if not (root / "app" / "__main__.py").is_file():
        raise argparse.ArgumentTypeError(f"{path} has no app/__main__.py")
    return root


if __name__ == "__main__":
    sys.exit(main())
