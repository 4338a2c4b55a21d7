"""What is tried: a generator with its client, or a linter."""

from dataclasses import dataclass
from typing import Literal

Registry = Literal["npm", "PyPI", "Go"]


@dataclass(frozen=True, slots=True)
class Generator:
    """Its commands run in a directory with `openapi.json` and the sources of its client."""

    name: str
    package: str
    registry: Registry
    language: str
    generate: str
    compile: str
    run: str
    """Gets the URL of the service as its last argument."""
    sources: tuple[str, ...] = ()
    """Of `clients/`, beside those under its own name."""
    switch: str | None = None
    """The file with a switch that the language requires to be exhaustive."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Linter:
    """Its command fails on the slightest finding."""

    name: str
    package: str
    registry: Registry
    rules: str
    lint: str


Tool = Generator | Linter
