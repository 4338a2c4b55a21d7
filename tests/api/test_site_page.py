"""The page, as a browser gets it: complete, all ours, and told what it cannot know."""

import json
import re
from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.api.folding import follow
from tests.in_process import Running, healthy, running_demo, running_service

pytestmark = pytest.mark.anyio

SECTIONS = {"data-sections": "user,posts,todos"}
BASE = "http://service.test/"
LINK = re.compile(r'(?:src|href)="([^"#]+)"')
IMPORT = re.compile(r'(?:from|import)\s*\(?\s*"([^"]+)"')


def known(page: httpx.Response) -> dict[str, str]:
    """What the page says of itself in the attributes of its root."""
    (root,) = re.findall(r"<html[^>]*>", page.text)
    return dict(re.findall(r'(data-\w+)="([^"]*)"', root))


@pytest.mark.parametrize(
    ("settings", "explains"),
    [({}, "true"), ({"explain": "on"}, "true"), ({"explain": "off"}, "false")],
)
async def test_above_the_demo_it_is_told_so(settings: Mapping[str, str], explains: str) -> None:
    async with running_demo(**settings) as service:
        page = await service.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert known(page) == {"data-demo": "true", "data-explain": explains, **SECTIONS}


@pytest.mark.parametrize(
    ("settings", "explains"),
    [({}, "false"), ({"explain": "on"}, "true"), ({"explain": "off"}, "false")],
)
async def test_so_it_is_above_real_upstreams(settings: Mapping[str, str], explains: str) -> None:
    async with running_service(healthy(), **settings) as service:
        assert known(await service.get("/")) == {
            "data-demo": "false",
            "data-explain": explains,
            **SECTIONS,
        }


async def test_all_that_it_needs_is_ours_and_there(service: Running) -> None:
    """Whatever it links to, and what that imports in turn."""
    waiting, seen = [BASE], dict[str, httpx.Response]()
    while waiting:
        url = waiting.pop()
        if url in seen:
            continue
        assert urlsplit(url).netloc == "service.test"
        seen[url] = response = await service.get(url)
        assert response.status_code == 200, url
        found = LINK if url == BASE else IMPORT if url.endswith(".js") else None
        if found:
            waiting += [urljoin(url, link) for link in found.findall(response.text)]
    kinds = {url: response.headers["content-type"].split(";")[0] for url, response in seen.items()}
    scripts = [url for url, kind in kinds.items() if kind == "text/javascript"]
    assert len(scripts) >= 2
    assert [url for url in seen if url.endswith(".js")] == scripts
    assert {"text/html", "text/css", "image/svg+xml", "application/json"} <= set(kinds.values())


async def test_nothing_is_inline_nor_from_elsewhere(service: Running) -> None:
    page = (await service.get("/")).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", page)
    style = (await service.get("/page/style.css")).text
    for text in (page, style):
        assert not re.search(r"https?:|[\"'(]//|@import", text)


async def test_a_browser_asks_each_time_whether_anything_is_new(service: Running) -> None:
    assert (await service.get("/")).headers["cache-control"] == "no-cache"
    for path in ("/page/app.js", "/page/style.css", "/favicon.svg"):
        first = await service.get(path)
        assert first.headers["cache-control"] == "no-cache"
        again = await service.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/", "/page", "/page/../docs/docs.js", "/page/../../main.py"]
)
async def test_there_is_nothing_else(service: Running, path: str) -> None:
    answer = await follow(service, path, "*/*")  # httpx would make the path a shorter one
    assert answer.status == 404
    assert json.loads(answer.text)["type"] == "/problems/no_such_route"


async def test_what_it_is_made_of_is_not_served(service: Running) -> None:
    assert (await service.get("/page/index.html")).status_code == 404


async def test_it_is_there_to_be_read(service: Running) -> None:
    response = await service.post("/")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
