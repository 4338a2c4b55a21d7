import pytest

from tests.clock import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """Nothing here waits for anything but time, so time need not pass."""
    return VIRTUAL
