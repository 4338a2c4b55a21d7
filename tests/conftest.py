"""What every test stands on: one event loop implementation, and no settings from outside."""

import os

import pytest
from hypothesis import HealthCheck, settings

from app.settings import Settings

# A busy machine is not a failure; nor is a fresh checkout, where the first example is slow.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Real sockets are driven by the loop that drives them in production."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's environment and `.env` must not decide whether a test passes."""
    for name in list(os.environ):
        if name.split("__")[0].lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
