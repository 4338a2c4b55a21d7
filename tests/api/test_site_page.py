"""The page, as a browser gets it: its files, its settings, nothing inline or external."""

import json
import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.api.stream_client import stream
from tests.in_process import ServiceClient, healthy_upstream, running_demo, running_service

pytestmark = pytest.mark.anyio

DATA_SECTIONS = {"data-sections": "user,posts,todos"}
BASE = "http://service.test/"
LINK = re.compile(r'(?:src|href)="([^"#]+)"')
IMPORT = re.compile(r'(?:from|import)\s*\(?\s*"([^"]+)"')


def settings_of(page: httpx.Response) -> dict[str, str]:
    """The `data-` attributes of the root element."""
    (root,) = re.findall(r"<html[^>]*>", page.text)
    return dict(re.findall(r'(data-\w+)="([^"]*)"', root))


@pytest.mark.parametrize(
    ("settings", "explains"),
    [({}, "true"), ({"explain": "on"}, "true"), ({"explain": "off"}, "false")],
)
async def test_the_page_has_its_settings_on_the_demo(
    settings: Mapping[str, str], explains: str
) -> None:
    async with running_demo(**settings) as service:
        page = await service.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert settings_of(page) == {"data-demo": "true", "data-explain": explains, **DATA_SECTIONS}


@pytest.mark.parametrize(
    ("settings", "explains"),
    [({}, "false"), ({"explain": "on"}, "true"), ({"explain": "off"}, "false")],
)
async def test_the_page_has_its_settings_on_real_upstreams(
    settings: Mapping[str, str], explains: str
) -> None:
    async with running_service(healthy_upstream(), **settings) as service:
        assert settings_of(await service.get("/")) == {
            "data-demo": "false",
            "data-explain": explains,
            **DATA_SECTIONS,
        }


async def test_the_page_links_only_to_files_of_this_service(service: ServiceClient) -> None:
    """All that it links to, and all that its scripts import."""
    waiting, seen = [BASE], dict[str, httpx.Response]()
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        assert urlsplit(url).netloc == "service.test"
        seen[url] = response = await service.get(url)
        assert response.status_code == 200, url
        pattern = LINK if url == BASE else IMPORT if url.endswith(".js") else None
        if pattern:
            waiting += [urljoin(url, link) for link in pattern.findall(response.text)]
    kinds = {url: response.headers["content-type"].split(";")[0] for url, response in seen.items()}
    scripts = [url for url, kind in kinds.items() if kind == "text/javascript"]
    assert len(scripts) >= 2
    assert [url for url in seen if url.endswith(".js")] == scripts
    assert {"text/html", "text/css", "image/svg+xml", "application/json"} <= set(kinds.values())


async def test_the_page_has_nothing_inline_or_external(service: ServiceClient) -> None:
    page = (await service.get("/")).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", page)
    style = (await service.get("/page/style.css")).text
    for text in (page, style):
        assert not re.search(r"https?:|[\"'(]//|@import", text)


async def test_page_files_are_revalidated_by_etag_with_304_not_modified(
    service: ServiceClient,
) -> None:
    assert (await service.get("/")).headers["cache-control"] == "no-cache"
    for path in ("/page/app.js", "/page/style.css", "/favicon.svg"):
        first = await service.get(path)
        assert first.headers["cache-control"] == "no-cache"
        response = await service.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (response.status_code, response.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/", "/page", "/page/../docs/docs.js", "/page/../../main.py"]
)
async def test_another_path_below_the_page_is_a_404(service: ServiceClient, path: str) -> None:
    response = await stream(service, path, "*/*")  # httpx would resolve the dots of the path
    assert response.status == 404
    assert json.loads(response.text)["type"] == "/problems/no_such_route"


async def test_the_template_of_the_page_is_a_404(service: ServiceClient) -> None:
    assert (await service.get("/page/index.html")).status_code == 404


async def test_post_to_the_page_is_a_405_with_allow(service: ServiceClient) -> None:
    response = await service.post("/")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
