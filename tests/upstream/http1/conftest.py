import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def unused_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that makes futures, and never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
