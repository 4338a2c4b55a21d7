"""Generated clients compile and work; linters find nothing: those of `make conformance` that are
quick, and what its document says of the others.
"""

from pathlib import Path

import httpx
import pytest

from acceptance.processes import ROOT
from conformance.__main__ import TOOLS
from conformance.install import install
from conformance.report import report
from conformance.trial import Trial, try_out
from conformance.versions import version_of

QUICK = [
    *("openapi-typescript", "orval", "openapi-python-client", "datamodel-code-generator"),
    *("redocly", "spectral"),
]


@pytest.fixture(scope="module")
def document(service_url: str) -> bytes:
    install()
    return httpx.get(f"{service_url}/openapi.json").raise_for_status().content


@pytest.mark.parametrize("name", QUICK)
def test_a_tool_has_no_fault_to_find(name: str, service_url: str, document: bytes) -> None:
    trial = try_out(TOOLS[name], service_url, document)

    assert trial.missing is None
    assert trial.passed
    assert trial.good, trial.said


def test_a_tool_that_is_missing_is_named_in_the_document() -> None:
    ogen = TOOLS["ogen"]

    document = report([Trial(ogen, missing="go")])

    assert f"| ogen | {version_of(ogen)} | Go | not tried: no `go` here |" in document


@pytest.mark.parametrize("name", TOOLS)
def test_the_document_is_about_the_versions_that_are_pinned(name: str) -> None:
    document = Path(ROOT / "docs/conformance.md").read_text()

    assert f"| {name} | {version_of(TOOLS[name])} |" in document
