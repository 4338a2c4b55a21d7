"""The figures of a scenario, printed one a line: `name: figure (bound) ok|MISSED`."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. Without a bound it is for information, and cannot be missed."""

    name: str
    value: str
    bound: str = ""
    ok: bool = True

    def __str__(self) -> str:
        if not self.bound:
            return f"{self.name}: {self.value}"
        return f"{self.name}: {self.value} ({self.bound}) {'ok' if self.ok else 'MISSED'}"


def info(name: str, value: str) -> Figure:
    return Figure(name, value)


def at_most(name: str, value: float, bound: float, unit: str = "") -> Figure:
    return Figure(name, _number(value, unit), f"at most {_number(bound, unit)}", value <= bound)


def at_least(name: str, value: float, bound: float, unit: str = "") -> Figure:
    return Figure(name, _number(value, unit), f"at least {_number(bound, unit)}", value >= bound)


def exactly(name: str, value: object, bound: object) -> Figure:
    return Figure(name, str(value), f"exactly {bound}", value == bound)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed; infinite for none, so that no bound holds."""
    if not values:
        return float("inf")
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _number(value: float, unit: str) -> str:
    match unit:
        case "%":
            return f"{value * 100:.1f} %"
        case "ms":
            return f"{value * 1000:.1f} ms"
        case _:
            return f"{value:.4g} {unit}".rstrip()
