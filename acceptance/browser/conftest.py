"""Fixtures shared by the browser checks."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from acceptance.browser.visit import Visit, browser, open_visit


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture
def visit(chromium: Browser, service_url: str) -> Iterator[Visit]:
    visit = open_visit(chromium, service_url)
    yield visit
    visit.page.close()
