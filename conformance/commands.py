"""Commands of tools that are installed here, or of those on the PATH."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

_PATH = os.pathsep.join(
    [str(HERE / "node_modules/.bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_TIMEOUT = 600.0  # seconds: a first build of Go's or Maven's fetches and compiles all it needs


def missing(command: str) -> str | None:
    """The program that `command` begins with, if it is not here."""
    program = shlex.split(command)[0]
    return None if shutil.which(program, path=_PATH) else program


def run(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Its output has errors too, without colours."""
    quiet = {"NO_COLOR": "1", "DO_NOT_TRACK": "1", "REDOCLY_TELEMETRY": "off"}
    done = subprocess.run(
        shlex.split(command),
        cwd=directory,
        env={**os.environ, **quiet, "PATH": _PATH},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    done.stdout = _COLOUR.sub("", done.stdout)  # Maven's has some whatever it is told
    return done
