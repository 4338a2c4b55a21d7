"""`python -m app` as a child process, and its log."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
SERVICE = (sys.executable, "-m", "app")
_TIMEOUT = 10.0


@asynccontextmanager
async def service_process(
    directory: Path, command: tuple[str, ...] = SERVICE, /, **settings: str
) -> AsyncIterator[Process]:
    """`python -m app`, started in `directory`, away from a developer's `.env`.

    It leads a process group, with whatever `command` runs it.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PORT": "0", "LOG_FORMAT": "json", **settings},
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_TIMEOUT):
            yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def log_event(process: Process, event: str) -> Any:
    """The next log line with this `event`, once it is there."""
    assert process.stdout
    async for line in process.stdout:
        entry = json.loads(line)
        if entry["event"] == event:
            return entry
    raise AssertionError(f"the process ended without logging {event!r}")


def base_url(url: str) -> str:
    """Scheme and authority of `url`."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))
