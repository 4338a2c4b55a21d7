"""How an answer is judged."""

import socket
import time

import httpx
import pytest

from app.errors import Failure, NotFound, Overloaded, Timeout, Unreachable, UpstreamStatus
from app.resilience.call import Question
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.sources.users import user
from tests.fakes import ending
from tests.upstream.asking import BODY, JSON, Stream, answered, asked, failed

pytestmark = pytest.mark.anyio

SECRET = "secret-of-the-upstream"


async def test_an_answer_says_since_when_and_for_how_long() -> None:
    began = time.time()
    answer = await answered(cache_control="max-age=60", age="10")
    assert began <= answer.as_of <= time.time()
    assert (answer.data.json, answer.data.dropped, answer.fresh_for) == (BODY, 0, 50)


async def test_several_lines_of_a_header_are_one_list() -> None:
    lines = [("Cache-Control", "public"), ("cache-control", "max-age=60"), *JSON.items()]
    answer = await asked(lambda _: httpx.Response(200, headers=lines, stream=Stream(BODY)))
    assert answer.fresh_for == 60


async def test_without_a_word_of_the_upstream_our_ttl_counts() -> None:
    response = httpx.Response(200, headers=JSON, stream=Stream(BODY))
    assert (await asked(lambda _: response, settings=UpstreamSettings(ttl=7))).fresh_for == 7


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (404, UpstreamStatus),
        (429, Overloaded),
        *((code, UpstreamStatus) for code in (201, 204, 206, 301, 302, 304, 307, 400, 401, 403)),
        *((code, UpstreamStatus) for code in (408, 410, 418, 500, 502, 503, 504, 599)),
    ],
)
async def test_any_status_but_200_is_a_failure(code: int, kind: type[Failure]) -> None:
    failure = await failed(httpx.Response(code, headers=JSON, content=BODY))
    assert type(failure) is kind
    assert failure.cause == f"HTTP {code}"


@pytest.mark.parametrize(("question", "kind"), [(user(1), NotFound), (posts_by(1), UpstreamStatus)])
async def test_only_a_user_can_be_absent(question: Question, kind: type[Failure]) -> None:
    assert type(await failed(httpx.Response(404, json={}), question)) is kind


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0", 0.0), ("120", 120.0)]
    + [(text, None) for text in ("", "-1", "1.5", "soon", "9" * 400, "Sun, 22 Nov 2026 13:00:00")],
)
async def test_when_to_come_back_is_told_in_seconds(
    code: int, value: str, seconds: float | None
) -> None:
    failure = await failed(httpx.Response(code, headers={"Retry-After": value}))
    assert failure.retry_after == seconds


@pytest.mark.parametrize(
    ("raised", "kind", "cause"),
    [
        (httpx.ReadTimeout(SECRET), Timeout, "ReadTimeout"),
        (httpx.ConnectTimeout(SECRET), Timeout, "ConnectTimeout"),
        (httpx.PoolTimeout(SECRET), Timeout, "PoolTimeout"),
        (httpx.ConnectError(SECRET), Unreachable, "ConnectError"),
        (httpx.ReadError(SECRET), Unreachable, "ReadError"),
        (httpx.RemoteProtocolError(SECRET), Unreachable, "RemoteProtocolError"),
        (httpx.UnsupportedProtocol(SECRET), Unreachable, "UnsupportedProtocol"),
    ],
)
async def test_what_breaks_on_the_way_is_a_failure_that_keeps_secrets(
    raised: httpx.TransportError, kind: type[Failure], cause: str
) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise raised

    failure = await ending(asked(broken))
    assert isinstance(failure, kind)
    assert (failure.cause or "").startswith(cause)
    assert SECRET not in f"{failure.detail}{failure.cause}"


@pytest.mark.parametrize(
    ("beneath", "word"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError(111, "Connect call failed ('10.0.0.1', 80)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ZeroDivisionError(SECRET), "ZeroDivisionError"),
        (OSError(SECRET), "OSError"),
    ],
)
async def test_the_systems_own_word_is_told_to_the_log(beneath: Exception, word: str) -> None:
    def refused(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(SECRET) from beneath

    failure = await ending(asked(refused))
    assert isinstance(failure, Unreachable)
    assert failure.cause == f"ConnectError: {word}"


async def test_a_bug_in_the_transport_is_no_failure() -> None:
    def buggy(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    assert isinstance(await ending(asked(buggy)), ZeroDivisionError)


@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize("question", [user(1), posts_by(1)])
async def test_nothing_of_what_the_upstream_said_is_repeated(
    status: int, question: Question
) -> None:
    body = b'{"id":"%b","%b":[' % (SECRET.encode(), SECRET.encode())
    for content in (body, body + b"]}"):
        response = httpx.Response(status, headers=JSON | {"X-Internal": SECRET}, content=content)
        failure = await failed(response, question)
        told = f"{failure.detail} {failure.cause} {failure}"
        assert SECRET not in told
        assert "mirror.test" not in told
