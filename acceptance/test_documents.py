"""The commands of the documents, run as they are written, and compared with the output beside them.

The service is on another port than the documents say, and real upstreams are the demo. Docker does
not run here: the ports of its commands are compared with the Dockerfile. That the other targets of
make exist is a test of `make test`; `.ci/run` runs them.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from acceptance.processes import LOOPBACK, STOP_TIMEOUT, answers, demo_upstream, free_port, service

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BASE = "http://127.0.0.1:8000"
VARYING = {"as_of", "elapsed_ms", "data"}


def blocks(language: str) -> Iterator[tuple[Path, str, str]]:
    """The blocks of a language: their document, their text, and what follows up to the next one."""
    for document in DOCUMENTS:
        parts = re.split(
            rf"^```{language}\n(.*?)^```\n", document.read_text(), flags=re.MULTILINE | re.DOTALL
        )
        for text, after in zip(parts[1::2], parts[2::2], strict=True):
            yield document, text, after


def commands(program: str) -> list[Any]:
    """Each command of a program, with the output that is documented below it."""
    return [
        pytest.param(command, output, after, id=f"{document.stem}: {command[:60]}")
        for document, text, after in blocks("console")
        for command, output in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n?)*)", text, re.MULTILINE)
        if re.match(rf"(?:[A-Z_]+=\S+ )*{program}\b", command)
    ]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """As it is documented: with its own latency, and no breaker that another test opened."""
    with service() as url:
        yield url


@pytest.mark.parametrize(("command", "output", "after"), commands("curl"))
def test_a_curl_command_answers_as_documented(
    command: str, output: str, after: str, demo: str
) -> None:
    ran = subprocess.run(
        ["sh", "-c", command.replace(BASE, demo)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    lines = ran.stdout.splitlines()
    for documented in filter(None, output.splitlines()):
        pattern = ".*".join(re.escape(part) for part in documented.split("…"))
        assert any(re.fullmatch(pattern, line) for line in lines), documented
    example = re.match(r"\s*```json\n(.*?)^```", after, re.MULTILINE | re.DOTALL)
    if example and not output:
        assert_like(json.loads(ran.stdout), json.loads(example[1]))
    assert output or example or lines[0].startswith("HTTP/1.1 200")


def assert_like(actual: Any, documented: Any) -> None:
    """The same members in the same order, with the same values where they do not vary."""
    if not isinstance(documented, dict):
        assert actual == documented
        return
    assert list(actual) == list(documented)
    for name in documented.keys() - VARYING:
        assert_like(actual[name], documented[name])


@pytest.mark.parametrize(("command", "output", "after"), commands("make run"))
def test_make_run_starts_the_service(command: str, output: str, after: str) -> None:
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    with demo_upstream() as upstream:
        command = command.partition("#")[0].replace("https://api.example.com", upstream)
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {command}"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PORT": str(port)},
        )
        try:
            assert answers(f"{url}/livez", process)
            assert httpx.get(f"{url}/v1/users/1/overview").json()["complete"] is True
        finally:
            process.send_signal(signal.SIGTERM)  # make hands it on
            process.wait(STOP_TIMEOUT)


@pytest.mark.parametrize(("command", "output", "after"), commands("docker"))
def test_a_docker_command_fits_the_dockerfile(command: str, output: str, after: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    published = re.search(r"-p \d+:(\d+)", command)
    assert published is None or f"EXPOSE {published[1]}\n" in dockerfile
    assert command.startswith(("docker build -t tributary .", "docker run"))
