"""`python -m app.demo`: the demo as a process of its own."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def _demo(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "app.demo", *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_listens_on_its_own_port_and_stops_without_output(stop: signal.Signals) -> None:
    with _demo("--port", "0", DEMO_LATENCY="0") as process:
        assert process.stdout
        assert process.stderr
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/users/1", timeout=5) as response:
            assert response.status == 200
        process.send_signal(stop)
        process.wait(timeout=5)
        assert process.stderr.read() == ""


@pytest.mark.parametrize("latency", ["fast", "-1", "nan", "inf", ""])
def test_an_invalid_demo_latency_exits_with_one_line(latency: str) -> None:
    with _demo("--port", "0", DEMO_LATENCY=latency) as process:
        _, error = process.communicate(timeout=5)
        assert process.returncode == 2
        assert error.startswith("DEMO_LATENCY ")
        assert error.count("\n") == 1
