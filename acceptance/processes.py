"""Real processes on loopback ports: started, awaited, and ended by their own pid."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

ROOT = Path(__file__).parents[1]
LOOPBACK = "127.0.0.1"
START_TIMEOUT = 30.0  # seconds: node's first start on a busy machine takes most of ten
STOP_TIMEOUT = 15.0  # seconds: longer than a drain may wait for a response in flight


@contextmanager
def service(**settings: str) -> Iterator[str]:
    """The base URL of the service with only these settings; it must end with exit code 0."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    env = {"HOST": LOOPBACK, "PORT": str(port), **settings}
    with running(python("app"), ready=f"{url}/livez", env=env) as process:
        yield url
    if process.returncode != 0:
        raise AssertionError(f"the service ended on SIGTERM with exit code {process.returncode}")


@contextmanager
def demo_upstream() -> Iterator[str]:
    """The base URL of the demo upstream, alone on a port and without its artificial latency."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [*python("app.demo"), "--port", str(port)]
    with running(command, ready=f"{url}/users/1", env={"DEMO_LATENCY": "0"}):
        yield url


@contextmanager
def refusing_upstream() -> Iterator[str]:
    """A base URL that refuses every connection: its port is bound, but not listened on."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{bound.getsockname()[1]}"


@contextmanager
def running(
    command: Sequence[str], *, ready: str, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers 200 at `ready`; at the end of the block it gets a SIGTERM."""
    # An empty working directory, so that no `.env` of the checkout is read.
    with TemporaryDirectory() as scratch, (Path(scratch) / "output").open("w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=scratch,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if not answers(ready, process):
                output.seek(0)
                text = output.read().decode(errors="replace")
                raise AssertionError(f"{' '.join(command)} did not answer 200 at {ready}:\n{text}")
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str, process: subprocess.Popen[bytes]) -> bool:
    """Whether a GET of `url` answers 200 before the process ends or START_TIMEOUT passes."""
    give_up = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < give_up:
        try:
            if httpx.get(url, timeout=2.0).status_code == 200:
                return True
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.05)
    return False


def python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
