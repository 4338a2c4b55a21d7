"""What the OpenAPI promises is what the service answers, whichever of its upstreams are down.

Schemathesis asks for everything that the document allows and for much that it does not;
`schemathesis.toml` says how, and which checks every answer has to pass.
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
    """The base URL of a service some of whose upstreams refuse every connection."""
    with ExitStack() as running:
        settings = {"UPSTREAM_URL": running.enter_context(demo_upstream())}
        for name in request.param:
            refusing = running.enter_context(refusing_upstream())
            settings[f"UPSTREAMS__{name.upper()}__URLS"] = refusing
        url = running.enter_context(service(**settings))

        overview = httpx.get(f"{url}/v1/users/1/overview").json()
        sections = overview.get("sections", overview)  # a problem has them one level down
        failed = [name for name in SECTIONS if sections[SECTIONS[name]]["status"] == "failed"]
        assert failed == list(request.param), "what is down must be what the overview misses"
        yield url


def test_every_answer_is_one_that_the_openapi_documents(partly_down: str, tmp_path: Path) -> None:
    options = ["--config-file", str(Path(__file__).with_name("schemathesis.toml")), "--no-color"]
    command = [*python("schemathesis.cli"), *options, "run", f"{partly_down}/openapi.json"]

    # In a directory of its own, for it leaves its findings where it runs.
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
