import pytest

from tests.clock import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """A virtual clock: these tests wait for timers only, never for sockets."""
    return VIRTUAL
