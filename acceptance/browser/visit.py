"""A page in a real browser, with a record of its errors, CSP violations and requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPORT_CSP_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  reportViolation(`${event.effectiveDirective}: ${event.blockedURI}`));
"""


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """The page's console errors, CSP violations and requests so far."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._record_error)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.expose_function("reportViolation", self._record_violation)
        self.page.add_init_script(REPORT_CSP_VIOLATIONS)

    def _record_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _record_violation(self, violation: str) -> None:
        self.violations.append(violation)

    def assert_clean(self) -> None:
        assert self.violations == []
        assert self.errors == []
        allowed = (f"{self.origin}/", "data:")
        assert [url for url in self.requests if not url.startswith(allowed)] == []


def open_visit(browser: Browser, origin: str, **options: Any) -> Visit:
    """Open a new page, with Playwright's options: `viewport`, `color_scheme`, …"""
    return Visit(browser.new_page(**options), origin)
