from collections.abc import AsyncIterator

import pytest
import respx

from tests.clock import VIRTUAL
from tests.in_process import Running, healthy, running_service


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """Nothing here waits for anything but time, so time need not pass."""
    return VIRTUAL


@pytest.fixture
def upstream() -> respx.MockRouter:
    return healthy()


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[Running]:
    async with running_service(upstream) as running:
        yield running
