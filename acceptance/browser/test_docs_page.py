"""The API docs in a real browser: they work under our CSP and stay on our origin."""

from playwright.sync_api import expect

from acceptance.browser.visit import Visit

OVERVIEW = "/v1/users/{user_id}/overview"


def test_the_docs_show_every_openapi_operation_under_a_strict_csp(visit: Visit) -> None:
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


def test_the_docs_try_out_an_overview_request(visit: Visit) -> None:
    visit.page.goto(f"{visit.origin}/docs")
    row = visit.page.locator(".opblock", has=visit.page.locator(f'[data-path="{OVERVIEW}"]'))
    row.locator(".opblock-summary-control").click()
    row.locator('tr[data-param-name="user_id"] input').fill("1")
    row.get_by_role("button", name="Execute").click()

    live = row.locator(".live-responses-table .response")
    expect(live.locator(".response-col_status")).to_contain_text("200")
    expect(live).to_contain_text('"user_id": 1')
    visit.assert_clean()
