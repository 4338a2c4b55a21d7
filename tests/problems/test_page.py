"""Who opens a problem type in a browser gets a page, and programs get JSON."""

from html import unescape

import pytest

from app.problems.types import PROBLEM_TYPES
from tests.in_process import ServiceClient

pytestmark = pytest.mark.anyio

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("slug", PROBLEM_TYPES)
async def test_a_browser_gets_a_page_that_explains_the_problem_type(
    service: ServiceClient,
    slug: str,
) -> None:
    response = await service.get(f"/problems/{slug}", headers={"Accept": BROWSER})
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "Accept" in response.headers["vary"]
    text = unescape(response.text)
    problem_type = PROBLEM_TYPES[slug]
    assert "$" not in text
    for words in (problem_type.title, problem_type.meaning, problem_type.what_to_do, slug):
        assert words in text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/problem+json", ""])
async def test_a_program_gets_json(service: ServiceClient, accept: str) -> None:
    response = await service.get("/problems/timeout", headers={"Accept": accept})
    assert response.json() == PROBLEM_TYPES["timeout"].model_dump(mode="json")
    assert "Accept" in response.headers["vary"]


async def test_an_unknown_type_is_a_problem_in_a_browser_too(
    service: ServiceClient,
) -> None:
    response = await service.get("/problems/nothing", headers={"Accept": BROWSER})
    assert (response.status_code, response.json()["status"]) == (404, 404)
