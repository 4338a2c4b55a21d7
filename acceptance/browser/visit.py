"""A page in a real browser, and everything that it should not have done."""

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
TELL_OF_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  violated(`${event.effectiveDirective}: ${event.blockedURI}`));
"""


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """Errors of the console, violations of our policy, and every request, as they happen."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._note_error)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.expose_function("violated", self._note_violation)
        self.page.add_init_script(TELL_OF_VIOLATIONS)

    def _note_error(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _note_violation(self, what: str) -> None:
        self.violations.append(what)

    def assert_clean(self) -> None:
        assert self.violations == []
        assert self.errors == []
        ours = (f"{self.origin}/", "data:")
        assert [url for url in self.requests if not url.startswith(ours)] == []


def visiting(browser: Browser, origin: str, **options: Any) -> Visit:
    """A new visitor, with the options of a Playwright page: `viewport`, `color_scheme`, …"""
    return Visit(browser.new_page(**options), origin)
