"""The tables, and whether the service meets its goals."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from .layers import PIPELINES
from .load import Round
from .slow import SLOWEST
from .variants import GATHER, SERVICE, VARIANTS, Variant

LIBRARIES = ("fastapi", "uvicorn", "uvloop", "httptools", "httpx", "aiohttp", "pydantic")
BUSY = (16, 64)
"""Connections at which the CPU goals must hold."""
COLD_GOAL = 8
"""The tutorial's `gather` must take so many times as much CPU time."""
HOT_GOAL = 35
LAYERS_GOAL = 60.0
"""Microseconds a call."""
ADDED_GOAL = 4.0
"""Milliseconds beyond the slowest upstream call, as measured in the same run."""

Costs = Mapping[tuple[Variant, int], list[Round]]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of single requests."""

    direct: list[float]
    """The slowest upstream call, sent to the upstream directly."""
    overviews: Mapping[Variant, list[float]]

    def added(self, variant: Variant, base: float) -> float:
        """Milliseconds that the median overview takes beyond `base` seconds."""
        return (median(self.overviews[variant]) - base) * 1e3


def print_header(rounds: int, seconds: float) -> None:
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    print(f"Python {platform.python_version()}; {libraries}")
    print("Every server: uvicorn on uvloop and httptools, one process on one core of its own.")
    print("Access logs are off; only the service logs its requests. An overview is three GETs.")
    print(f"Medians of {rounds} rounds of {seconds:g} s or more, the variants in turn.")


def print_layers(added: Mapping[str, float]) -> None:
    print("\nWhat the resilience layers add to one call, CPU µs; each is also measured alone.\n")
    for name, cost in added.items():
        print(f"{name:22}{cost:>14.1f}")


def print_costs(title: str, costs: Costs) -> None:
    print(f"\n\n{title}\n")
    print(f"{'':22}{'c':>4}{'CPU µs':>10}{'of gather':>11}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}")
    for connections in _connections(costs):
        base = _cpu(costs, GATHER, connections)
        for variant in VARIANTS:
            if (variant, connections) not in costs:
                continue
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
    print(f"The slowest takes {direct * 1e3:.2f} ms when called directly.\n")
    print(f"{'':22}{'p50 ms':>9}{'over direct':>13}{'over 100 ms':>13}")
    for variant, samples in times.overviews.items():
        over_direct, over_nominal = (times.added(variant, base) for base in (direct, SLOWEST))
        p50 = median(samples) * 1e3
        print(f"{variant.name:22}{p50:>9.2f}{over_direct:>13.2f}{over_nominal:>13.2f}")
    print()


def print_comparison(title: str, costs: Costs, new: Variant, old: Variant) -> None:
    """Compare each round of one checkout with the round of the other that ran next to it."""
    print(f"\n\n{title}\n")
    print(f"{'c':>4}{'new CPU µs':>12}{'old CPU µs':>12}{'new/old':>9}{'rounds':>16}")
    for connections in _connections(costs):
        pairs = zip(costs[new, connections], costs[old, connections], strict=True)
        ratios = sorted(one.cpu / other.cpu for one, other in pairs)
        cpu, before = (_cpu(costs, variant, connections) for variant in (new, old))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"{connections:>4}{cpu:>12.0f}{before:>12.0f}{median(ratios):>9.3f}{spread:>16}")


def shortfalls(layers: Mapping[str, float], cold: Costs, hot: Costs, times: Times) -> list[str]:
    """A sentence for each goal that the service misses."""
    missed = [*_cpu_shortfalls(cold, COLD_GOAL, "cold"), *_cpu_shortfalls(hot, HOT_GOAL, "hot")]
    missed += [
        f"Missed: {name} add {layers[name]:.0f} µs to a call, not {LAYERS_GOAL:g}."
        for name in PIPELINES
        if layers[name] > LAYERS_GOAL
    ]
    added = times.added(SERVICE, median(times.direct))
    if added > ADDED_GOAL:
        missed.append(f"Missed: {added:.1f} ms added to the slowest upstream, not {ADDED_GOAL:g}.")
    return missed


_FIELDS = ("rate", "p50", "p99")


def _cpu_shortfalls(costs: Costs, goal: int, name: str) -> Iterator[str]:
    for connections in BUSY:
        times = _cpu(costs, GATHER, connections) / _cpu(costs, SERVICE, connections)
        if times < goal:
            yield f"Missed: {name}, 1/{times:.1f} of gather's CPU at c={connections}, not 1/{goal}."


def _connections(costs: Costs) -> list[int]:
    return sorted({connections for _, connections in costs})


def _cpu(costs: Costs, variant: Variant, connections: int) -> float:
    return median(one.cpu for one in costs[variant, connections])
