"""`python -m chaos [NAME ...]`: run the scenarios in turn, and print their figures."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvloop

from benchmarks.process import BenchmarkError
from chaos.batch import batch, sections
from chaos.crowd import crowd
from chaos.disconnect import disconnect
from chaos.dns_change import dns_change
from chaos.figures import Figure
from chaos.hedging import hedging
from chaos.hurry import hurry
from chaos.isolation import isolation
from chaos.large_batches import large_batches
from chaos.log_reader import log_reader
from chaos.mirrors import mirrors
from chaos.outage import outage, stale
from chaos.overload import overload
from chaos.own_overload import own_overload
from chaos.poison import poison
from chaos.recovery import recovery
from chaos.refusals import refusals
from chaos.shared import shared
from chaos.slow_reader import slow_reader
from chaos.soak import soak
from chaos.starvation import starvation
from chaos.tls_hang import tls_hang

Scenario = Callable[[Path], AsyncIterator[Figure]]

SCENARIOS: dict[str, Scenario] = {
    "outage": outage,
    "stale": stale,
    "poison": poison,
    "hurry": hurry,
    "mirrors": mirrors,
    "starvation": starvation,
    "shared": shared,
    "refusals": refusals,
    "recovery": recovery,
    "isolation": isolation,
    "overload": overload,
    "own_overload": own_overload,
    "hedging": hedging,
    "sections": sections,
    "batch": batch,
    "large_batches": large_batches,
    "disconnect": disconnect,
    "slow_reader": slow_reader,
    "tls_hang": tls_hang,
    "dns_change": dns_change,
    "crowd": crowd,
    "log_reader": log_reader,
    "soak": soak,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENARIOS)}")
    names: list[str] = parser.parse_args().names or list(SCENARIOS)
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]}; there are {', '.join(SCENARIOS)}")
    # The service has the first core to itself; this process, clients and upstreams, has the last.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for stop in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stop, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as directory,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            missed = runner.run(_run(names, Path(directory)))
    except BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{missed} missed" if missed else "All bounds hold.")
    return 1 if missed else 0


async def _run(names: list[str], directory: Path) -> int:
    missed = 0
    for name in names:
        async for figure in SCENARIOS[name](directory):
            print(figure, flush=True)
            missed += not figure.ok
    return missed


if __name__ == "__main__":
    sys.exit(main())
