"""Fixtures for more than one check."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from acceptance.processes import service

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def npm_modules() -> Path:
    """`node_modules` as in the lock file, installed again only when the lock is newer."""
    if not (which("node") and which("npm")):
        pytest.fail("node and npm are not on the PATH: install Node.js 20 or later, npm included")
    modules, lock = HERE / "node_modules", HERE / "package-lock.json"
    stamp = modules / ".package-lock.json"  # npm writes it last, after a complete install
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        install = subprocess.run(
            ["npm", "ci"], cwd=HERE, capture_output=True, text=True, check=False, timeout=300
        )
        if install.returncode != 0:
            pytest.fail(
                f"npm ci in {HERE.name}/ failed; it needs an npm registry:\n{install.stderr}"
            )
    return modules


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    """The service as it starts with nothing configured, on its embedded demo upstream."""
    with service(DEMO_LATENCY="0.01") as url:
        yield url
