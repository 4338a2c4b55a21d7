"""What the documents say that can be checked without running it: links, sizes, tables, drawings.

`acceptance/test_documents.py` runs their commands.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors
from app.errors import Failure, UpstreamStatus

ROOT = Path(__file__).parents[1]
LAYERS = sorted(path.stem for path in (ROOT / "app/resilience/layers").glob("[!_]*.py"))


def documents() -> list[Path]:
    """Every Markdown file that is committed, or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines()]


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_resolves(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    links += re.findall(r'(?:src|srcset|href)="([^"#]+)"', text)
    missing = [
        link
        for link in links
        if not re.match(r"[a-z]+:", link) and not (document.parent / link).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_the_app_that_is_named_exists(document: Path) -> None:
    named = re.findall(r"`(app/[\w/]+(?:\.py|/))`", document.read_text())
    new = {"app/sources/albums.py"} if document.name == "extending.md" else set()
    assert {name for name in named if not (ROOT / name).exists()} == new


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    command = re.compile(r"(?:`|^ {4}|^\$ )(?:[A-Z_]+=\S+ )*make ([a-z0-9-]+)", re.MULTILINE)
    named = command.findall(document.read_text())
    assert set(named) <= targets


def test_the_readme_has_at_most_1300_words() -> None:
    assert len(text_of("README.md").split()) <= 1300


def test_the_readme_leads_to_every_document() -> None:
    linked = {ROOT / link for link in re.findall(r"\]\(([^)#]+\.md)\)", text_of("README.md"))}
    assert {path for path in documents() if path.parent == ROOT / "docs"} <= linked
    assert ROOT / "CONTRIBUTING.md" in linked


def test_the_import_order_of_the_design_is_that_of_import_linter() -> None:
    order = text_of("docs/design.md").partition("\n__main__ >")[2].partition("```")[0]
    drawn = [sorted(level.replace(",", " ").split()) for level in f"__main__ >{order}".split(">")]
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["type"] == "layers")
    assert drawn == [sorted(level.replace("|", " ").split()) for level in layers]


def test_the_layers_of_the_design_are_drawn_in_the_order_of_the_pipeline() -> None:
    drawing = text_of("docs/design.md").partition("resilience/pipeline.py")[2].partition("```")[0]
    drawn = [word for word in re.findall(r" {2}(\w+) {2}", drawing) if word in LAYERS]
    inner, outer = text_of("app/resilience/pipeline.py").split("one_round = round_robin")
    entry = re.compile(r"^ +(\w+)\(", re.MULTILINE)
    entries = [*entry.findall(outer), "race", *entry.findall(inner)]
    assert drawn == [name for name in entries if name in LAYERS]
    assert sorted(drawn) == LAYERS


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_is_described(layer: str) -> None:
    section = text_of("docs/design.md").partition("\n## The layers\n")[2].partition("\n## ")[0]
    titles = re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)
    assert any(layer.replace("_", " ") in title.lower() for title in titles)


def test_the_table_of_failures_is_that_of_the_code() -> None:
    section = text_of("docs/design.md").partition("\n## What a failure means")[2]
    rows = [row.strip("|").split("|") for row in section.splitlines() if row.startswith("| ")]
    documented = {cells[0].strip(): tuple(cell.strip() for cell in cells[1:]) for cells in rows[1:]}
    answer, fault = UpstreamStatus(403).policy, UpstreamStatus(500).policy
    policies = {
        "timeout, unreachable, 5xx, 408": fault,
        "invalid payload": errors.InvalidPayload.policy,
        "a status that HTTP does not have (600, 999, 000)": UpstreamStatus(600).policy,
        "404 and any other 4xx": answer,
        "a 304 about another answer": errors.NotConfirmed.policy,
        "circuit open, no capacity of ours": errors.Overloaded.policy,
        "429": errors.TooManyRequests.policy,
    }
    retried = {"any_mirror": "on any mirror", "other_mirror": "on another mirror", "never": "no"}
    word = {True: "yes", False: "no"}
    assert documented.keys() >= policies.keys()
    for name, policy in policies.items():
        row = retried[policy.retry_on], policy.breaker
        assert documented[name] == (*row, word[policy.answered], word[policy.stale_if_error])
    same: dict[type[Failure], errors.Policy] = {
        errors.Timeout: fault,
        errors.Unreachable: fault,
        errors.NotFound: answer,
        errors.Unauthorized: answer,
        errors.Forbidden: answer,
    }
    same[errors.CircuitOpen] = errors.Overloaded.policy
    assert {failure: failure.policy for failure in same} == same
    assert set(failures(Failure)) == {
        *same,
        *(UpstreamStatus, errors.InvalidPayload, errors.NotConfirmed),
        *(errors.Overloaded, errors.TooManyRequests),
    }


def failures(failure: type[Failure]) -> Iterator[type[Failure]]:
    for one in failure.__subclasses__():
        yield one
        yield from failures(one)


def test_every_log_line_is_documented() -> None:
    sources = [*(ROOT / "app").rglob("*.py")]
    logged = set()
    for path in sources:
        logged |= set(
            re.findall(r"log\.(?:info|warning|exception)\(\s*\"([a-z ]+)\"", path.read_text())
        )
    documented = text_of("docs/operations.md")
    assert logged
    assert [event for event in sorted(logged) if f"| `{event}`" not in documented] == []
