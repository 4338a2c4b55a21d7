"""Take the README's pictures: `make screenshots`.

A section fails for a while in them, because that is what there is to see.
"""

from pathlib import Path

from playwright.sync_api import Browser, expect

from acceptance.browser.visit import browser, visiting
from acceptance.processes import ROOT, service

PICTURES = ROOT / "docs"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with service(DEMO_LATENCY="0.1") as url, browser() as chromium:
        for scheme in ("light", "dark"):
            taken = PICTURES / f"page-{scheme}.png"
            take(chromium, url, taken, scheme)
            print(taken.relative_to(ROOT))


def take(chromium: Browser, url: str, picture: Path, scheme: str) -> None:
    visit = visiting(
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
    page.screenshot(path=picture)
    visit.assert_clean()
    page.close()


if __name__ == "__main__":
    main()
