"""`python -m benchmarks`: run every variant in turn and print what an overview costs."""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .measure import costs, times
from .process import BenchmarkError
from .report import print_costs, print_header, print_times, shortfalls

NEEDED = ("wrk", "nginx")
"""Programs, each in the Debian package of its name."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each variant at each load")
    parser.add_argument("--seconds", type=float, default=3, help="that a round lasts, at least")
    parser.add_argument("--check", action="store_true", help="exit 1 if the service misses a goal")
    options = parser.parse_args()

    os.environ["PATH"] += ":/usr/sbin"  # where Debian keeps nginx, and few users look
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
    for end in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.default_int_handler)

    print_header(options.rounds, options.seconds)
    try:
        with tempfile.TemporaryDirectory(prefix="benchmarks-") as name:
            directory = Path(name)
            cost = costs(options.rounds, options.seconds, core, load_core, directory)
            print_costs(cost)
            time = times(options.rounds, core, load_core, directory)
            print_times(time)
    except BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    missed = shortfalls(cost, time)
    print("\n".join(missed) if missed else "Both goals are met.")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
