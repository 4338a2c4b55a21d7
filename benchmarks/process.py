"""Child processes on a core of their own: started, awaited, and always ended."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


class BenchmarkError(Exception):
    """The run cannot go on, or what it measured cannot be trusted."""


def free_port() -> int:
    """A port that is not in use now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    port: int,
    core: int,
    directory: Path,
    root: Path = ROOT,
) -> Iterator[int]:
    """The pid of a server that listens on `port`; its process group ends with the block.

    Its environment is little more than `environment`, and it starts in `directory`, so that neither
    a proxy setting nor a developer's `.env` affects the figures. Its modules are those of `root`.
    """
    errors = directory / f"{port}.stderr"
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=bare | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        os.sched_setaffinity(process.pid, {core})
        _wait_until_open(process, port, errors)
        yield process.pid
    finally:
        _end(process)


def members(group: int) -> list[int]:
    """The processes in a group, its leader included."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    members = []
    for pid in pids:
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == group:
                members.append(pid)
    return members


def _wait_until_open(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        with suppress(ConnectionRefusedError), socket.create_connection((HOST, port)):
            return
        time.sleep(0.02)
    output = errors.read_text(errors="replace").strip()
    raise BenchmarkError(f"{process.args!r} did not start on port {port}:\n{output}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
            return
