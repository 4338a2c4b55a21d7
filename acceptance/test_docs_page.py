"""The API docs in a real browser: they work, break no rule of our own, and stay on our origin."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import ConsoleMessage, Page, expect, sync_playwright

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
OVERVIEW = "/v1/users/{user_id}/overview"


@dataclass
class Visit:
    """A page, and everything that it should not have done."""

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


@pytest.fixture
def visit(service_url: str) -> Iterator[Visit]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield Visit(browser.new_page(), service_url.rstrip("/"))
        browser.close()


def test_the_docs_show_every_operation(visit: Visit) -> None:
    answer = visit.page.goto(f"{visit.origin}/docs")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy

    paths = visit.page.request.get(f"{visit.origin}/openapi.json").json()["paths"]
    rows = visit.page.locator(".opblock")
    expect(rows).to_have_count(sum(len(operations) for operations in paths.values()))
    expect(rows.locator(f'[data-path="{OVERVIEW}"]')).to_be_visible()
    visit.assert_clean()


def test_the_overview_can_be_tried_out(visit: Visit) -> None:
    visit.page.goto(f"{visit.origin}/docs")
    row = visit.page.locator(".opblock", has=visit.page.locator(f'[data-path="{OVERVIEW}"]'))
    row.locator(".opblock-summary-control").click()
    row.locator('tr[data-param-name="user_id"] input').fill("1")
    row.get_by_role("button", name="Execute").click()

    live = row.locator(".live-responses-table .response")
    expect(live.locator(".response-col_status")).to_contain_text("200")
    expect(live).to_contain_text('"user_id": 1')
    visit.assert_clean()
