"""Every answer conforms to the OpenAPI document, whichever upstreams are down.

Schemathesis sends requests that the document allows and many that it does not; `schemathesis.toml`
configures it, and the checks that every answer has to pass.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from acceptance.processes import ROOT, demo_upstream, python, refusing_upstream, service

SECTIONS = {"users": "user", "posts": "posts", "todos": "todos"}
DOWN = [(), ("users",), ("posts",), ("todos",), ("users", "posts", "todos")]


@pytest.fixture(params=DOWN, ids=lambda down: "+".join(down) or "none")
def partly_down(request: pytest.FixtureRequest) -> Iterator[str]:
    """The base URL of a service; some of its upstreams refuse every connection."""
    with ExitStack() as running:
        settings = {"UPSTREAM_URL": running.enter_context(demo_upstream())}
        for name in request.param:
            refusing = running.enter_context(refusing_upstream())
            settings[f"UPSTREAMS__{name.upper()}__URLS"] = refusing
        url = running.enter_context(service(**settings))

        overview = httpx.get(f"{url}/v1/users/1/overview").json()
        sections = overview.get("sections", overview)  # a problem has them one level deeper
        failed = [name for name in SECTIONS if sections[SECTIONS[name]]["status"] == "failed"]
        assert failed == list(request.param), "exactly the sections of these upstreams must fail"
        yield url


def test_every_answer_conforms_to_the_openapi_document(partly_down: str, tmp_path: Path) -> None:
    options = ["--config-file", str(Path(__file__).with_name("schemathesis.toml")), "--no-color"]
    document = f"{partly_down}/openapi.json?version=3.2"  # which has the streams too
    command = [*python("schemathesis.cli"), *options, "run", document]

    # In a directory of its own, because it writes its report where it runs.
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr
