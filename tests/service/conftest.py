"""The tests over real sockets measure real time."""

import gc

import pytest


@pytest.fixture(scope="package", autouse=True)
def no_garbage_of_earlier_tests() -> None:
    """Thousands of tests leave a large heap; to search all of it takes longer than these bounds."""
    gc.collect()
    gc.freeze()
