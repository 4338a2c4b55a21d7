"""The page at `/` in a real browser: sections complete, fail and recover, and attempts overlap."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

from acceptance.browser.visit import Visit, open_visit
from acceptance.processes import service

SECTIONS = ("user", "posts", "todos")
PHONE = {"width": 390, "height": 844}
APPEARANCES: list[dict[str, Any]] = [
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "viewport": PHONE},
    {"color_scheme": "dark", "viewport": PHONE},
]


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    """A demo slow enough for the attempts to overlap visibly."""
    with service(DEMO_LATENCY="0.1") as url:
        yield url


@pytest.fixture
def visit(chromium: Browser, demo_url: str) -> Iterator[Visit]:
    visit = open_visit(chromium, demo_url)
    visit.page.goto(demo_url)
    yield visit
    visit.assert_clean()
    visit.page.close()


def card(visit: Visit, section: str) -> Locator:
    return visit.page.locator(f'[data-card="{section}"]')


def expect_states(visit: Visit, **states: str) -> None:
    for section, state in states.items():
        expect(card(visit, section)).to_have_attribute("data-state", state)


def send_request(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Send request", exact=True).click()


def set_fault(visit: Visit, section: str, fault: str) -> None:
    visit.page.get_by_label(f"{section} upstream").select_option(fault)


def test_the_page_shows_three_sections_and_a_demo_banner(visit: Visit) -> None:
    expect_states(visit, user="ok", posts="ok", todos="ok")
    expect(card(visit, "user")).to_contain_text("Marit Alderson")
    expect(visit.page.locator('[data-banner="demo"]')).to_contain_text("Demo data")


def test_the_attempts_overlap_in_the_waterfall(visit: Visit) -> None:
    bars = visit.page.locator('[data-waterfall] [data-kind="attempt"]')
    expect(bars).to_have_count(3)
    spans = [
        tuple(float(bar.get_attribute(f"data-{end}") or "nan") for end in ("start", "end"))
        for bar in bars.all()
    ]
    assert max(start for start, _ in spans) < min(end for _, end in spans)
    assert all(end - start >= 99 for start, end in spans)
    boxes = [bar.bounding_box() for bar in bars.all()]
    assert len({box["y"] for box in boxes if box}) == 3, "one below the other"


def test_a_failed_section_says_why_and_recovers_by_an_automatic_retry(visit: Visit) -> None:
    expect_states(visit, posts="ok")
    set_fault(visit, "posts", "failing")
    send_request(visit)

    expect_states(visit, user="ok", posts="failed", todos="ok")
    expect(card(visit, "posts")).to_contain_text("the upstream answered 500, 3 attempts")
    expect(
        visit.page.locator('[data-waterfall] [data-kind="attempt"][data-section="posts"]')
    ).to_have_count(3)

    set_fault(visit, "posts", "")
    before = len(visit.requests)
    expect_states(visit, posts="ok")  # retried automatically
    (retry,) = (url for url in visit.requests[before:] if "/v1/" in url)
    assert "include=posts" in retry


def test_the_retry_button_recovers_a_failed_section(visit: Visit) -> None:
    set_fault(visit, "todos", "malformed")
    send_request(visit)
    expect_states(visit, user="ok", posts="ok", todos="failed")

    set_fault(visit, "todos", "")
    visit.page.get_by_role("button", name="Retry todos now").click()
    expect_states(visit, todos="ok")


def test_a_failed_required_section_fails_the_overview(visit: Visit) -> None:
    expect_states(visit, user="ok", posts="ok", todos="ok")
    set_fault(visit, "todos", "failing")
    visit.page.get_by_label("require todos").check()
    send_request(visit)
    expect(visit.page.locator('[data-banner="overview-failed"]')).to_contain_text("todos")


def test_a_batch_fills_a_tile_per_user_and_marks_the_unknown_user_as_failed(visit: Visit) -> None:
    expect_states(visit, user="ok", posts="ok", todos="ok")
    visit.page.get_by_role("button", name="Request all").click()
    tiles = visit.page.locator("[data-tile]")
    expect(visit.page.locator('[data-tile][data-state="ok"]')).to_have_count(10)
    expect(visit.page.locator('[data-tile][data-user="999"]')).to_have_attribute(
        "data-state", "failed"
    )
    expect(tiles).to_have_count(11)


def test_keyboard_accessibility_lets_a_request_be_sent_without_a_mouse(visit: Visit) -> None:
    expect_states(visit, user="ok", posts="ok", todos="ok")
    before = len(visit.requests)
    visit.page.get_by_label("User", exact=True).focus()
    visit.page.keyboard.press("ControlOrMeta+A")
    visit.page.keyboard.type("3")
    visit.page.keyboard.press("Enter")
    expect(card(visit, "user")).to_contain_text("Ines Caldeira")
    assert any("/v1/users/3/" in url for url in visit.requests[before:])


def test_the_page_shows_an_error_when_the_service_is_unreachable(chromium: Browser) -> None:
    with service(DEMO_LATENCY="0") as url:
        visit = open_visit(chromium, url)
        visit.page.goto(url)
        expect_states(visit, user="ok", posts="ok", todos="ok")
    send_request(visit)
    expect(visit.page.locator('[data-banner="error"]')).to_be_visible()
    visit.page.close()


@pytest.mark.parametrize(
    "appearance", APPEARANCES, ids=["light", "dark", "light-phone", "dark-phone"]
)
def test_the_page_passes_the_accessibility_rules_of_axe_and_never_scrolls_sideways(
    chromium: Browser, demo_url: str, npm_modules: Path, appearance: dict[str, Any]
) -> None:
    visit = open_visit(chromium, demo_url, bypass_csp=True, **appearance)
    visit.page.goto(f"{demo_url}/")
    set_fault(visit, "posts", "failing")
    send_request(visit)
    expect_states(visit, user="ok", posts="failed", todos="ok")
    visit.page.get_by_role("button", name="Request all").click()
    expect(visit.page.locator("[data-tile]")).to_have_count(11)
    for details in visit.page.locator("details").all():
        details.evaluate("details => { details.open = true }")

    visit.page.add_script_tag(path=npm_modules / "axe-core" / "axe.min.js")
    violations = visit.page.evaluate("axe.run()")["violations"]
    assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in violations] == []
    overflow = visit.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, "the page scrolls sideways"
    visit.page.close()
