"""What more than one check in the browser needs."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from acceptance.browser.visit import Visit, browser, visiting


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture
def visit(chromium: Browser, service_url: str) -> Iterator[Visit]:
    one = visiting(chromium, service_url)
    yield one
    one.page.close()
