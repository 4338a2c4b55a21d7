import pytest

from tests.clock import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """These tests wait for timers only, so time is virtual."""
    return VIRTUAL
