"""The servers to measure: how each is started, and where its response has the data."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import ROOT

SECTIONS = ("user", "posts", "todos")

Overview = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to build the overview."""

    name: str
    command: tuple[str, ...]
    """It reads its address from the environment, under uvicorn's names or the service's own."""
    sections: Callable[[Overview], Overview]
    """From the variant's response to the data of each section."""
    root: Path = ROOT
    """The checkout that its code is from."""


def _tutorial(module: str) -> tuple[str, ...]:
    """Uvicorn with its fastest options, so that the cost is that of the variant's own code."""
    uvicorn = (sys.executable, "-m", "uvicorn", f"benchmarks.variants.{module}:app")
    fastest = ("--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning")
    return uvicorn + fastest


def _plain(response: Overview) -> Overview:
    return {name: response[name] for name in SECTIONS}


def _complete(response: Overview) -> Overview:
    if response["complete"] is not True or any(
        response[name]["status"] != "ok" for name in SECTIONS
    ):
        raise ValueError(f"not complete: {response}")
    return {name: response[name]["data"] for name in SECTIONS}


SEQUENTIAL = Variant("tutorial sequential", _tutorial("tutorial_sequential"), _plain)
GATHER = Variant("tutorial gather", _tutorial("tutorial_gather"), _plain)
SERVICE = Variant("this service", (sys.executable, "-m", "app"), _complete)
AIOHTTP = Variant("bare aiohttp gather", _tutorial("bare_aiohttp"), _plain)

VARIANTS = (SEQUENTIAL, GATHER, SERVICE, AIOHTTP)
