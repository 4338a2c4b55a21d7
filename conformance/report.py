"""What was found, as a document."""

from collections.abc import Iterable, Sequence

from conformance.generators import GENERATORS
from conformance.linters import LINTERS
from conformance.tool import Generator, Linter
from conformance.trial import Trial
from conformance.versions import version_of

_STEPS = ("generate", "compile", "switch", "overview", "404", "batch", "newer")

_HEAD = """# Conformance

Client generators and linters, tried on `/openapi.json` of the running demo by
`make conformance`, which writes this page. [Which one to take](clients.md) is another page;
schemathesis runs in `make acceptance`.

- **generate, compile**: the command below, then the strictest compiler of the language:
  `tsc --strict`, `mypy --strict`, `go vet`, `javac`, `kotlinc`.
- **switch**: a `switch` over the `status` of a section compiles, and does not if it forgets
  `skipped`. Go and Java 17 have none that must be exhaustive: there, sections are told apart by
  their type.
- **overview, 404, batch**: a call through generated code alone gives what the JSON says: a user's
  name, read out of the union, and the number of posts; the problem of an unknown user; a batch
  of both.
- **newer**: the same, when every object has a member that is not in the document.
"""


def report(trials: Sequence[Trial]) -> str:
    """The whole document; a tool that is missing, or not yet tried, is named in it."""
    tried = {trial.tool.name: trial for trial in trials}
    generators = [_generator(tool, tried.get(tool.name)) for tool in GENERATORS]
    linters = [_linter(tool, tried.get(tool.name)) for tool in LINTERS]
    notes = [f"- **{tool.name}**: {tool.note}." for tool in GENERATORS if tool.note]
    commands = [f"{tool.name}\n    {tool.generate}" for tool in GENERATORS]
    parts = [
        _HEAD,
        _table(["generator", "version", "language", *_STEPS], generators),
        _table(["linter", "version", "rules", "findings"], linters),
        *_failures(trials),
        "## What to know\n\n" + "\n".join(notes) + "\n",
        "## Commands\n\n```\n" + "\n".join(commands) + "\n```\n",
    ]
    return "\n".join(parts)


def _generator(tool: Generator, trial: Trial | None) -> list[str]:
    named = [tool.name, version_of(tool), tool.language]
    if trial is None or trial.missing:
        return [*named, _not_tried(trial), *[""] * (len(_STEPS) - 1)]
    marks = {step: "yes" if passed else "**no**" for step, passed in trial.passed.items()}
    return [*named, *(marks.get(step, "") for step in _STEPS)]


def _linter(tool: Linter, trial: Trial | None) -> list[str]:
    if trial is None or trial.missing:
        return [tool.name, version_of(tool), tool.rules, _not_tried(trial)]
    return [tool.name, version_of(tool), tool.rules, "none" if trial.good else "**some**"]


def _not_tried(trial: Trial | None) -> str:
    return f"not tried: no `{trial.missing}` here" if trial else "not tried"


def _failures(trials: Iterable[Trial]) -> Iterable[str]:
    said = [(trial.tool.name, trial.said) for trial in trials if trial.said]
    if said:
        yield "## What failed\n"
    for name, output in said:
        lines = "\n".join(output.splitlines()[:12])
        yield f"**{name}**\n\n```\n{lines}\n```\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
