"""The API docs, which load without the internet and under our own CSP."""

import re
from urllib.parse import urljoin, urlsplit

import pytest

from tests.in_process import ServiceClient

pytestmark = pytest.mark.anyio

BASE = "http://service.test/docs"


async def test_docs_redirect_without_the_trailing_slash(service: ServiceClient) -> None:
    response = await service.get("/docs/", follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/docs")


async def test_docs_link_only_to_files_of_this_service(service: ServiceClient) -> None:
    page = (await service.get("/docs")).text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        url = urlsplit(urljoin(BASE, link))
        assert url.netloc == "service.test"
        assert (await service.get(url.path)).status_code == 200, link


async def test_docs_have_no_inline_script_or_style(service: ServiceClient) -> None:
    page = (await service.get("/docs")).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", page)


async def test_the_docs_script_loads_our_openapi_document(service: ServiceClient) -> None:
    script = (await service.get("/docs/docs.js")).text
    assert "openapi.json" in script
    assert not re.search(r"https?://", script)


async def test_docs_files_are_revalidated_by_etag_with_304_not_modified(
    service: ServiceClient,
) -> None:
    first = await service.get("/docs/docs.js")
    assert first.headers["cache-control"] == "no-cache"
    response = await service.get("/docs/docs.js", headers={"If-None-Match": first.headers["etag"]})
    assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    "range_", ["bytes=0-9", "bytes=999999-", "bytes=9-1", "x", "bytes=0-0,5-6"]
)
async def test_a_range_of_a_file_is_the_whole_file(service: ServiceClient, range_: str) -> None:
    whole = await service.get("/docs/docs.js")
    part = await service.get("/docs/docs.js", headers={"Range": range_})
    assert (part.status_code, part.content) == (200, whole.content)
    assert "accept-ranges" not in part.headers


async def test_the_icon_is_there_for_browsers_that_are_not_told_where(
    service: ServiceClient,
) -> None:
    icon = await service.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
