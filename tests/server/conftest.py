from collections.abc import AsyncIterator

import pytest
import respx

from tests.clock import VIRTUAL
from tests.in_process import ServiceClient, healthy_upstream, running_service


@pytest.fixture
def anyio_backend() -> tuple[str, object]:
    """These tests wait for timers only, so time is virtual."""
    return VIRTUAL


@pytest.fixture
def upstream() -> respx.MockRouter:
    return healthy_upstream()


@pytest.fixture
async def service(upstream: respx.MockRouter) -> AsyncIterator[ServiceClient]:
    async with running_service(upstream) as client:
        yield client
