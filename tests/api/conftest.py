from collections.abc import AsyncIterator

import pytest
import respx

from tests.api.serving import Running, healthy, serving
from tests.clock import VIRTUAL


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """Nothing here waits for anything but time, so time need not pass."""
    return VIRTUAL


@pytest.fixture
def upstream() -> respx.MockRouter:
    return healthy()


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[Running]:
    async with serving(upstream) as running:
        yield running
