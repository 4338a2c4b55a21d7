"""The API docs, which load without the internet and under our own policy."""

import re
from urllib.parse import urljoin, urlsplit

import pytest

from tests.in_process import Running

pytestmark = pytest.mark.anyio

BASE = "http://service.test/docs"


async def test_a_slash_too_many_leads_back(service: Running) -> None:
    response = await service.get("/docs/", follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/docs")


async def test_all_that_the_page_needs_is_ours_and_there(service: Running) -> None:
    page = (await service.get("/docs")).text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        url = urlsplit(urljoin(BASE, link))
        assert url.netloc == "service.test"
        assert (await service.get(url.path)).status_code == 200, link


async def test_the_page_has_nothing_inline(service: Running) -> None:
    page = (await service.get("/docs")).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", page)


async def test_the_script_of_ours_asks_for_our_document(service: Running) -> None:
    script = (await service.get("/docs/docs.js")).text
    assert "openapi.json" in script
    assert not re.search(r"https?://", script)


async def test_a_browser_asks_again_and_is_told_that_nothing_changed(service: Running) -> None:
    first = await service.get("/docs/docs.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await service.get("/docs/docs.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
