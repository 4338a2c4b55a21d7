"""The health check of the image, run as the image does, wherever the service listens."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.process import base_url, log_event, service_process

pytestmark = pytest.mark.anyio

_ROOT = Path(__file__).parents[2]
_DOCKERFILE = (_ROOT / "Dockerfile").read_text()


def health_check(host: str, port: str) -> int:
    """The exit code of the image's health check."""
    found = re.search(r"^HEALTHCHECK .*\n\s+CMD (\[.*\])$", _DOCKERFILE, re.MULTILINE)
    assert found
    _, *arguments = json.loads(found[1])
    nowhere = "http://127.0.0.1:9"
    environment = {"HOST": host, "PORT": port, "HTTP_PROXY": nowhere, "http_proxy": nowhere}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, stderr=subprocess.DEVNULL, check=False
    ).returncode


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "127.0.0.2", "::1", "localhost"])
async def test_the_health_check_holds_wherever_the_service_listens(
    host: str, tmp_path: Path
) -> None:
    async with service_process(tmp_path, HOST=host) as process:
        listening = await log_event(process, "listening")
        port = base_url(listening["page"]).rpartition(":")[2]
        assert health_check(host, port) == 0
    assert health_check(host, port) != 0


def test_the_image_has_the_python_of_the_tests_and_of_the_lock_files() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    versions = set(re.findall(r"^FROM python:(\S+)-slim", _DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"--python-version (\S+)", makefile)) == versions
    assert re.findall(r"command -v python(3\.\d+)", makefile) == [*versions]
