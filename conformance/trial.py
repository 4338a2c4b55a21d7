"""One tool, tried: what it did, and what it said where it failed."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from conformance.commands import HERE, missing, run
from conformance.expected import expected
from conformance.newer import newer
from conformance.tool import Generator, Linter, Tool

BUILD = HERE / "build"

_SKIPPED_CASE = re.compile(
    r"""^(?P<indent>\ *)(case|is)\ [^\n]*skipped[^\n]*\n  # the line that begins it,
        ((?P=indent)\ +[^\n]*\n)*                         # and those that belong to it""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)


@dataclass(slots=True)
class Trial:
    """`passed` has each step that was tried; `said` the output of the first that failed."""

    tool: Tool
    passed: dict[str, bool] = field(default_factory=dict)
    said: str = ""
    missing: str | None = None

    @property
    def good(self) -> bool:
        return not self.missing and all(self.passed.values())

    def record(self, step: str, passed: bool, said: str) -> bool:
        self.passed[step] = passed
        if not passed and not self.said:
            self.said = said.strip() or f"{step}: no output"
        return passed


def try_out(tool: Tool, url: str, document: bytes) -> Trial:
    """Try `tool` on the `document` of the service at `url`, in a new directory."""
    directory = BUILD / tool.name
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "generated").mkdir(parents=True)
    (directory / "openapi.json").write_bytes(document)
    shared = tool.sources if isinstance(tool, Generator) else ()
    for sources in (*shared, tool.name):
        if (HERE / "clients" / sources).exists():
            shutil.copytree(HERE / "clients" / sources, directory, dirs_exist_ok=True)
    trial = Trial(tool)
    match tool:
        case Linter():
            if not _lacks(trial, tool.lint):
                _succeeds(trial, "lint", run(tool.lint, directory))
        case Generator():
            if not _lacks(trial, tool.generate, tool.compile, tool.run):
                _generator(trial, tool, directory, url)
    return trial


def _lacks(trial: Trial, *commands: str) -> bool:
    trial.missing = next(filter(None, map(missing, commands)), None)
    return trial.missing is not None


def _generator(trial: Trial, tool: Generator, directory: Path, url: str) -> None:
    if not _succeeds(trial, "generate", run(tool.generate, directory)):
        return
    if not _succeeds(trial, "compile", run(tool.compile, directory)):
        return
    if tool.switch:
        _forget_a_case(trial, tool, directory / tool.switch)
    said = run(f"{tool.run} {url}", directory).stdout
    for step, line in expected(url).items():
        trial.record(step, line in said.splitlines(), said)
    with newer(url) as tomorrow:
        said = run(f"{tool.run} {tomorrow}", directory).stdout
    trial.record("newer", set(expected(url).values()) <= set(said.splitlines()), said)


def _forget_a_case(trial: Trial, tool: Generator, source: Path) -> None:
    """A switch over a section's status that forgets `skipped` must not compile."""
    complete = source.read_text()
    incomplete, forgotten = _SKIPPED_CASE.subn("", complete)
    assert forgotten == 1, f"{source} has {forgotten} cases for `skipped`"
    source.write_text(incomplete)
    compiled = run(tool.compile, BUILD / tool.name)
    trial.record("switch", compiled.returncode != 0, "it compiles without a case for `skipped`")
    source.write_text(complete)


def _succeeds(trial: Trial, step: str, done: subprocess.CompletedProcess[str]) -> bool:
    return trial.record(step, done.returncode == 0, done.stdout)
