"""The request middleware: security headers, request ID, HEAD, bugs, and the log line."""

import re

import httpx
import pytest
import respx
from starlette.types import Message

from app.problems.responses import Problem
from tests.in_process import (
    CONNECT_ERROR,
    PATH,
    ServiceClient,
    a_scope,
    body_of,
    healthy_upstream,
    log_lines,
    never_disconnecting,
    running_service,
    upstream_with,
)

pytestmark = pytest.mark.anyio

CSP = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
ROUTES = [PATH, f"{PATH}?include=posts", "/livez", "/readyz?verbose", "/problems/timeout"]
PAGES = ["/", "/docs", "/docs/", "/docs/docs.js", "/favicon.svg", "/openapi.json"]
ERRORS = ["/nowhere", "/docs/nowhere", "/problems/nonsense", "/v1/users/0/overview"]


@pytest.fixture
def upstream_with_bug() -> respx.MockRouter:
    """The call of one section raises a bug of ours."""
    return upstream_with(posts=RuntimeError("a bug of ours"))


def assert_headers(response: httpx.Response) -> None:
    assert response.headers["content-security-policy"] == CSP
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert len(response.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("path", [*ROUTES, *PAGES, *ERRORS])
async def test_every_response_has_the_security_headers_and_a_request_id(
    service: ServiceClient, path: str
) -> None:
    assert_headers(await service.get(path))


async def test_error_responses_have_the_security_headers_and_a_request_id(
    upstream_with_bug: respx.MockRouter,
) -> None:
    async with running_service(upstream_with_bug) as service:
        assert_headers(await service.post("/livez"))
        assert_headers(await service.overview())
    async with running_service(upstream_with(posts=CONNECT_ERROR)) as service:
        assert_headers(await service.overview("?require=posts"))


@pytest.mark.parametrize("path", [*ROUTES, *PAGES, *ERRORS])
async def test_head_has_the_status_and_headers_of_get_without_the_body(
    service: ServiceClient, path: str
) -> None:
    headers = {"X-Request-ID": "same", "Accept-Encoding": "identity"}
    get, head = await service.get(path, headers=headers), await service.head(path, headers=headers)
    assert head.status_code == get.status_code
    assert head.content == b""
    for response in (get, head):
        response.headers.pop("server-timing", None)
    assert head.headers == get.headers
    assert head.headers.get("content-length") == str(len(get.content))


@pytest.mark.parametrize("path", [PATH, "/docs", "/nowhere", "/readyz"])
async def test_head_sends_no_byte_of_the_body(service: ServiceClient, path: str) -> None:
    """Below httpx, which would ignore the body itself."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await service.app(a_scope(path, "HEAD"), never_disconnecting, send)
    assert sent[0]["type"] == "http.response.start"
    assert dict(sent[0]["headers"])[b"content-length"] != b"0"
    assert [message.get("body", b"") for message in sent[1:]] == [b""] * (len(sent) - 1)
    assert sent[-1].get("more_body", False) is False


async def test_head_of_a_500_has_no_body(upstream_with_bug: respx.MockRouter) -> None:
    async with running_service(upstream_with_bug) as service:
        head = await service.head(PATH)
    assert (head.status_code, head.content) == (500, b"")


@pytest.mark.parametrize("request_id", ["a", "A-Za-z0-9._-", "0" * 128, "..."])
async def test_a_valid_request_id_is_kept_and_sent_upstream(
    service: ServiceClient, upstream: respx.MockRouter, request_id: str
) -> None:
    assert (await service.overview(X_Request_ID=request_id)).headers["x-request-id"] == request_id
    assert upstream["user"].calls.last.request.headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", [None, "", "0" * 129, "a b", "a/b", "ä", 'a"b', "{}", "a,b"])
async def test_an_invalid_request_id_is_replaced_by_a_new_one(
    service: ServiceClient, upstream: respx.MockRouter, request_id: str | None
) -> None:
    headers = [] if request_id is None else [(b"X-Request-ID", request_id.encode())]
    first, second = [await service.get(PATH, headers=headers) for _ in range(2)]
    replacement = second.headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", replacement)
    assert replacement not in (request_id, first.headers["x-request-id"])
    assert upstream["user"].calls.last.request.headers["x-request-id"] == replacement


@pytest.mark.parametrize("query", ["", "?require=posts", "?include=posts", "?require=user"])
async def test_a_bug_is_a_500_with_its_traceback_in_the_log_and_never_a_failed_section(
    upstream_with_bug: respx.MockRouter, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(upstream_with_bug) as service:
        response = await service.overview(query, X_Request_ID="find-me")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"] == "find-me"
    problem = body_of(response, Problem)
    assert (problem["type"], problem["status"]) == ("/problems/internal_error", 500)
    assert "bug of ours" not in response.text

    error, request = log_lines(capsys)[-2:]
    assert (error["level"], error["request_id"]) == ("error", "find-me")
    assert "RuntimeError: a bug of ours" in error["exception"]
    assert "Traceback" in error["exception"]
    assert (request["event"], request["status"]) == ("request", 500)


async def test_every_request_is_one_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(upstream_with(posts=CONNECT_ERROR)) as service:
        await service.overview("?include=posts,todos", X_Request_ID="r1")
        await service.get("/nowhere", headers={"X-Request-ID": "r2"})
        await service.head("/livez", headers={"X-Request-ID": "r3"})
    lines = log_lines(capsys, "request")
    assert [
        (line["request_id"], line["method"], line["path"], line["status"]) for line in lines
    ] == [("r1", "GET", PATH, 200), ("r2", "GET", "/nowhere", 404), ("r3", "HEAD", "/livez", 200)]
    assert (lines[0]["complete"], lines[0]["failed"]) == (False, {"posts": "unreachable"})
    assert all(line["level"] == "info" and line["ms"] >= 0 for line in lines)


async def test_secrets_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    upstreams = {"posts": {"headers": {"Authorization": "our-secret"}}}
    async with running_service(
        upstream_with(posts=httpx.Response(403, text="their-secret")),
        forward_headers=("x-token",),
        upstreams=upstreams,
    ) as service:
        await service.overview("?include=posts", X_Token="client-secret")
    assert "secret" not in capsys.readouterr().out


async def test_log_level_warning_logs_no_request(capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(healthy_upstream(), log_level="warning") as service:
        await service.overview()
    assert capsys.readouterr().out == ""
