"""Take the README's screenshots: `make screenshots`.

They show a failed section, because that is what the page is for.
"""

from pathlib import Path

from playwright.sync_api import Browser, expect

from acceptance.browser.visit import browser, open_visit
from acceptance.processes import ROOT, service

SCREENSHOTS = ROOT / "docs"


def main() -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    with service(DEMO_LATENCY="0.1") as url, browser() as chromium:
        for scheme in ("light", "dark"):
            file = SCREENSHOTS / f"page-{scheme}.png"
            take(chromium, url, file, scheme)
            print(file.relative_to(ROOT))


def take(chromium: Browser, url: str, file: Path, scheme: str) -> None:
    visit = open_visit(
        chromium,
        url,
        viewport={"width": 1280, "height": 1480},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page = visit.page
    page.goto(url)
    page.get_by_label("posts upstream").select_option("failing")
    page.get_by_role("button", name="Send request", exact=True).click()
    expect(page.locator('[data-card="posts"]')).to_have_attribute("data-state", "failed")
    page.screenshot(path=file)
    visit.assert_clean()
    page.close()


if __name__ == "__main__":
    main()
