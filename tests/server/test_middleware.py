"""What every answer has, whichever route gave it."""

import re

import httpx
import pytest
import respx
from starlette.types import Message

from app.problems.responses import Problem
from tests.in_process import (
    BROKEN,
    PATH,
    Running,
    a_scope,
    body_of,
    healthy,
    logged,
    never_leaving,
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
def broken_code() -> respx.MockRouter:
    """One section meets a defect of ours."""
    return upstream_with(posts=RuntimeError("a bug of ours"))


def assert_safe(response: httpx.Response) -> None:
    assert response.headers["content-security-policy"] == CSP
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert len(response.headers.get_list("x-request-id")) == 1


@pytest.mark.parametrize("path", [*ROUTES, *PAGES, *ERRORS])
async def test_every_answer_is_safe_to_show(service: Running, path: str) -> None:
    assert_safe(await service.get(path))


async def test_refusals_and_failures_are_safe_to_show_too(broken_code: respx.MockRouter) -> None:
    async with running_service(broken_code) as service:
        assert_safe(await service.post("/livez"))
        assert_safe(await service.overview())
    async with running_service(upstream_with(posts=BROKEN)) as service:
        assert_safe(await service.overview("?require=posts"))


@pytest.mark.parametrize("path", [*ROUTES, *PAGES, *ERRORS])
async def test_head_answers_what_get_answers_without_the_body(service: Running, path: str) -> None:
    same = {"X-Request-ID": "the-same"}
    got, head = await service.get(path, headers=same), await service.head(path, headers=same)
    assert head.status_code == got.status_code
    assert head.content == b""
    for response in (got, head):
        response.headers.pop("server-timing", None)
    assert head.headers == got.headers
    assert head.headers.get("content-length") == str(len(got.content))


@pytest.mark.parametrize("path", [PATH, "/docs", "/nowhere", "/readyz"])
async def test_not_a_byte_of_a_body_is_sent_for_head(service: Running, path: str) -> None:
    """Asked below httpx, which would leave it out itself."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await service.app(a_scope(path, "HEAD"), never_leaving, send)
    assert sent[0]["type"] == "http.response.start"
    assert dict(sent[0]["headers"])[b"content-length"] != b"0"
    assert [message.get("body", b"") for message in sent[1:]] == [b""] * (len(sent) - 1)
    assert sent[-1].get("more_body", False) is False


async def test_head_of_a_failure_has_no_body_either(broken_code: respx.MockRouter) -> None:
    async with running_service(broken_code) as service:
        head = await service.head(PATH)
    assert (head.status_code, head.content) == (500, b"")


@pytest.mark.parametrize("given", ["a", "A-Za-z0-9._-", "0" * 128, "..."])
async def test_a_usable_request_id_is_kept_and_passed_on(
    service: Running, upstream: respx.MockRouter, given: str
) -> None:
    assert (await service.overview(X_Request_ID=given)).headers["x-request-id"] == given
    assert upstream["user"].calls.last.request.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "0" * 129, "a b", "a/b", "ä", 'a"b', "{}", "a,b"])
async def test_any_other_is_replaced_by_a_new_one(
    service: Running, upstream: respx.MockRouter, given: str | None
) -> None:
    headers = [] if given is None else [(b"X-Request-ID", given.encode())]
    first, second = [await service.get(PATH, headers=headers) for _ in range(2)]
    replaced = second.headers["x-request-id"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", replaced)
    assert replaced not in (given, first.headers["x-request-id"])
    assert upstream["user"].calls.last.request.headers["x-request-id"] == replaced


@pytest.mark.parametrize("query", ["", "?require=posts", "?include=posts", "?require=user"])
async def test_a_bug_is_a_500_with_its_traceback_in_the_log_and_never_a_section(
    broken_code: respx.MockRouter, query: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(broken_code) as service:
        response = await service.overview(query, X_Request_ID="find-me")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-request-id"] == "find-me"
    problem = body_of(response, Problem)
    assert (problem["type"], problem["status"]) == ("/problems/internal_error", 500)
    assert "bug of ours" not in response.text

    error, request = logged(capsys.readouterr().out)[-2:]
    assert (error["level"], error["request_id"]) == ("error", "find-me")
    assert "RuntimeError: a bug of ours" in error["exception"]
    assert "Traceback" in error["exception"]
    assert (request["event"], request["status"]) == ("request", 500)


async def test_every_request_is_one_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(upstream_with(posts=BROKEN)) as service:
        await service.overview("?include=posts,todos", X_Request_ID="r1")
        await service.get("/nowhere", headers={"X-Request-ID": "r2"})
        await service.head("/livez", headers={"X-Request-ID": "r3"})
    lines = [line for line in logged(capsys.readouterr().out) if line["event"] == "request"]
    assert [
        (line["request_id"], line["method"], line["path"], line["status"]) for line in lines
    ] == [("r1", "GET", PATH, 200), ("r2", "GET", "/nowhere", 404), ("r3", "HEAD", "/livez", 200)]
    assert (lines[0]["complete"], lines[0]["failed"]) == (False, {"posts": "unreachable"})
    assert all(line["level"] == "info" and line["ms"] >= 0 for line in lines)


async def test_what_is_secret_does_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    upstreams = {"posts": {"headers": {"Authorization": "our-secret"}}}
    async with running_service(
        upstream_with(posts=httpx.Response(403, text="their-secret")),
        forward_headers=("x-token",),
        upstreams=upstreams,
    ) as service:
        await service.overview("?include=posts", X_Token="client-secret")
    assert "secret" not in capsys.readouterr().out


async def test_a_quiet_log_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    async with running_service(healthy(), log_level="warning") as service:
        await service.overview()
    assert capsys.readouterr().out == ""
