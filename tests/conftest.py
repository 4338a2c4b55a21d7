"""For every test: the event loop of production, and no settings from the environment."""

import os

import pytest
from hypothesis import HealthCheck, settings

from app.settings import Settings

# No deadline: a busy machine is not a failure. In a fresh checkout, the first example is slow.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Tests with real sockets run on uvloop, as production does."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _no_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's environment and `.env` must not decide whether a test passes."""
    for name in list(os.environ):
        if name.split("__")[0].lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
