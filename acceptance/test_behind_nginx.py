"""Behind a real nginx that shows the service below a prefix, every link leads back to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from acceptance.processes import LOOPBACK, free_port, running, service

# A proxy may take the prefix off (a URI after the address) or leave it (none).
CONF = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    gzip on;
    gzip_types application/json application/problem+json;
    server {{
        listen {host}:{port};
        location /api/ {{
            proxy_pass {upstream}{uri};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
        }}
    }}
}}
"""


@contextmanager
def behind_nginx(directory: Path, uri: str, **settings: str) -> Iterator[str]:
    """The base URL of the service as clients see it."""
    port = free_port()
    conf = directory / "nginx.conf"
    with service(ROOT_PATH="/api", DEMO_LATENCY="0.3", **settings) as upstream:
        conf.write_text(
            CONF.format(directory=directory, host=LOOPBACK, port=port, upstream=upstream, uri=uri)
        )
        base = f"http://{LOOPBACK}:{port}/api"
        command = ["/usr/sbin/nginx", "-e", str(directory / "error.log"), "-c", str(conf)]
        with running(command, ready=f"{base}/livez", env={}):
            yield base


@pytest.fixture(params=["/", ""], ids=["prefix taken off", "prefix left"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with behind_nginx(tmp_path, request.param) as url:
        yield url


def test_the_links_of_an_answer_lead_back_through_the_proxy(base: str) -> None:
    origin = base.removesuffix("/api")
    faults = {"X-Demo-Fault": "posts=failing"}
    error = httpx.get(f"{base}/v1/users/1/overview", headers=faults).json()["posts"]["error"]
    assert httpx.get(origin + error["type"]).json()["type"] == error["type"]
    section = httpx.get(origin + error["href"]).json()
    assert section["posts"]["status"] == "ok"
    missing = httpx.get(f"{base}/v1/users/999/overview").json()
    assert missing["instance"] == "/api/v1/users/999/overview"


def test_the_openapi_document_says_where_the_service_is(base: str) -> None:
    document = httpx.get(f"{base}/openapi.json").json()
    (server,) = document["servers"]
    origin = base.removesuffix("/api")
    assert httpx.get(f"{origin}{server['url']}/readyz").json() == {"status": "ready"}


def test_events_come_through_the_proxy_as_they_are_sent(base: str) -> None:
    headers = {"Accept": "text/event-stream", "X-Demo-Fault": "posts=slow"}
    began, times, text = perf_counter(), list[float](), ""
    with httpx.stream("GET", f"{base}/v1/users/1/overview", headers=headers) as response:
        for chunk in response.iter_text():
            text += chunk
            times.append(perf_counter() - began)
    assert text.count("event: section") == 3
    assert times[-1] - times[0] > 1, "the slow section is awaited for more than a second"


def test_a_compressed_batch_as_lines_comes_through_the_proxy(base: str) -> None:
    headers = {"Accept": "application/x-ndjson", "Accept-Encoding": "gzip"}
    response = httpx.get(f"{base}/v1/overviews?user_id=1,2,3", headers=headers)
    assert response.headers["content-encoding"] == "gzip"
    assert [json.loads(line)["status"] for line in response.text.splitlines()] == ["ok"] * 3


def test_the_page_and_the_docs_find_their_files_below_the_prefix(base: str) -> None:
    for page, files in (
        ("/", ("page/app.js", "page/style.css", "favicon.svg")),
        ("/docs", ("docs/docs.js",)),
        ("/problems/timeout", ("page/style.css",)),
    ):
        html = httpx.get(base + page, headers={"Accept": "text/html"}).text
        for file in files:
            assert file in html
            assert httpx.get(f"{base}/{file}").status_code == 200
