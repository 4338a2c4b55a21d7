"""The tables, and whether the service keeps to its goals."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from .load import Round
from .slow import SLOWEST
from .variants import GATHER, SERVICE, VARIANTS, Variant

LIBRARIES = ("fastapi", "uvicorn", "uvloop", "httptools", "httpx", "aiohttp", "pydantic")
BUSY = (16, 64)
"""Connections at which the CPU goal holds."""
CPU_GOAL = 1 / 8
"""Of the CPU time of the tutorial's `gather`."""
ADDED_GOAL = 4.0
"""Milliseconds over what the slowest upstream takes by name."""

Costs = Mapping[tuple[Variant, int], list[Round]]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of single requests."""

    direct: list[float]
    """The slowest upstream call, asked without anyone between."""
    overviews: Mapping[Variant, list[float]]

    def added(self, variant: Variant, base: float) -> float:
        """Milliseconds that the median overview takes beyond `base` seconds."""
        return (median(self.overviews[variant]) - base) * 1e3


def print_header(rounds: int, seconds: float) -> None:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(f"Python {platform.python_version()}; {libraries}")
    print("Every server: uvicorn on uvloop and httptools, one process on one core of its own.")
    print("Access logs are off; only the service logs its requests. An overview is three GETs.")
    print(f"Medians of {rounds} rounds of {seconds:g} s or more, the variants in turn.\n")


def print_costs(costs: Costs) -> None:
    print(
        f"\n\n{'':22}{'c':>4}{'CPU µs':>10}{'of gather':>11}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}"
    )
    for connections in sorted({connections for _, connections in costs}):
        base = _cpu(costs, GATHER, connections)
        for variant in VARIANTS:
            rounds = costs[variant, connections]
            cpu = _cpu(costs, variant, connections)
            rate, p50, p99 = (median(getattr(one, field) for one in rounds) for field in _FIELDS)
            print(
                f"{variant.name:22}{connections:>4}{cpu:>10.0f}{f'1/{base / cpu:.1f}':>11}"
                f"{rate:>9.0f}{p50:>9.2f}{p99:>9.2f}"
            )
        print()


def print_times(times: Times) -> None:
    direct = median(times.direct)
    print("\n\nThe upstreams take 20, 50 and 100 ms; one overview at a time.")
    print(f"The slowest takes {direct * 1e3:.2f} ms when asked directly.\n")
    print(f"{'':22}{'p50 ms':>9}{'over direct':>13}{'over 100 ms':>13}")
    for variant, samples in times.overviews.items():
        over_direct, over_name = (times.added(variant, base) for base in (direct, SLOWEST))
        p50 = median(samples) * 1e3
        print(f"{variant.name:22}{p50:>9.2f}{over_direct:>13.2f}{over_name:>13.2f}")
    print()


def shortfalls(costs: Costs, times: Times) -> list[str]:
    """A sentence for each goal that the service misses."""
    missed = []
    for connections in BUSY:
        share = _cpu(costs, SERVICE, connections) / _cpu(costs, GATHER, connections)
        if share > CPU_GOAL:
            missed.append(f"Missed: 1/{1 / share:.1f} of gather's CPU at c={connections}, not 1/8.")
    added = times.added(SERVICE, median(times.direct))
    if added > ADDED_GOAL:
        missed.append(f"Missed: {added:.1f} ms added to the slowest upstream, not {ADDED_GOAL:g}.")
    return missed


_FIELDS = ("rate", "p50", "p99")


def _cpu(costs: Costs, variant: Variant, connections: int) -> float:
    return median(one.cpu for one in costs[variant, connections])
