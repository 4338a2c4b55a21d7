"""The servers under measurement: how each is started, and how its answer is read."""

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
    """Serves it where the environment says, by uvicorn's names or by the service's own."""
    sections: Callable[[Overview], Overview]
    """From the variant's answer to the bare data of each section."""
    root: Path = ROOT
    """The checkout that its code is from."""


def _tutorial(module: str) -> tuple[str, ...]:
    """Uvicorn at its fastest: what a variant loses, it loses in its own code."""
    uvicorn = (sys.executable, "-m", "uvicorn", f"benchmarks.variants.{module}:app")
    fastest = ("--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning")
    return uvicorn + fastest


def _plain(answer: Overview) -> Overview:
    return {name: answer[name] for name in SECTIONS}


def _complete(answer: Overview) -> Overview:
    if answer["complete"] is not True or any(answer[name]["status"] != "ok" for name in SECTIONS):
        raise ValueError(f"not complete: {answer}")
    return {name: answer[name]["data"] for name in SECTIONS}


SEQUENTIAL = Variant("tutorial sequential", _tutorial("tutorial_sequential"), _plain)
GATHER = Variant("tutorial gather", _tutorial("tutorial_gather"), _plain)
SERVICE = Variant("this service", (sys.executable, "-m", "app"), _complete)
AIOHTTP = Variant("bare aiohttp gather", _tutorial("bare_aiohttp"), _plain)

VARIANTS = (SEQUENTIAL, GATHER, SERVICE, AIOHTTP)
