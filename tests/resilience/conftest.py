import pytest

from app.call import Event
from tests.clock import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """These tests wait for timers only, so time is virtual."""
    return VIRTUAL


@pytest.fixture
def events() -> list[Event]:
    """What the layer under test emitted, if its `emit` is `events.append`."""
    return []
