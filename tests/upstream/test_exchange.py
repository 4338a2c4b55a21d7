"""How an answer is judged."""

import asyncio
import socket
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest

from app.call import Question
from app.errors import (
    Failure,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.sources.users import user
from tests.fakes import now, result_or_error
from tests.upstream.asking import BODY, JSON, Stream, answered, asked, failed

pytestmark = pytest.mark.anyio

SECRET = "secret-of-the-upstream"
DATE = "Sun, 22 Nov 2026 13:00:00 GMT"


async def test_an_answer_says_since_when_and_until_when() -> None:
    await asyncio.sleep(100)
    began = time.time()
    answer = await answered(cache_control="max-age=60", age="10", etag='"a"')
    assert (answer.data.json, answer.data.dropped, answer.stale) == (BODY, 0, False)
    # It was good already when it came into the cache that it comes from.
    assert began <= answer.as_of + 10 <= time.time()
    assert answer.cache_policy.fresh_until == pytest.approx(now() + 50, abs=1)
    assert answer.cache_policy.fresh_until <= now() + 50
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"a"'),)


async def test_the_time_that_an_answer_took_to_come_is_not_fresh_any_more() -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        time.sleep(0.05)  # the age of an answer is counted by the clock on the wall
        return httpx.Response(200, headers=JSON | {"Cache-Control": "max-age=60"}, content=BODY)

    assert now() + 59 < (await asked(slow)).cache_policy.fresh_until <= now() + 59.95


async def test_several_lines_of_a_header_are_one_list() -> None:
    lines = [("Cache-Control", "public"), ("cache-control", "max-age=60"), *JSON.items()]
    answer = await asked(lambda _: httpx.Response(200, headers=lines, stream=Stream(BODY)))
    assert answer.cache_policy.fresh_until == pytest.approx(now() + 60, abs=1)


async def test_without_a_word_of_the_upstream_our_ttl_counts() -> None:
    response = httpx.Response(200, headers=JSON, stream=Stream(BODY))
    answer = await asked(lambda _: response, settings=UpstreamSettings(ttl=7))
    assert answer.cache_policy.fresh_until == now() + 7


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (404, UpstreamStatus),
        (429, TooManyRequests),
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


async def test_too_many_requests_is_no_lack_of_ours_so_it_may_be_asked_again() -> None:
    failure = await failed(httpx.Response(429))
    assert isinstance(failure, Overloaded)
    assert (failure.policy.retry_on, Overloaded("").policy.retry_on) == ("any_mirror", "never")


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("7", 7.0), ("0", 0.0), ("120", 120.0), ("999999", 999999.0)),
        ("Sun, 22 Nov 2026 13:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 13:01:00 GMT", 60.0),
        *(("Sun, 22 Nov 2026 13:00:00 GMT", 0.0), ("Sun, 22 Nov 2020 13:00:00 GMT", 0.0)),
        *((text, None) for text in ("", "-1", "1.5", "soon", "7 s", "7, 8", "\u0661", "9" * 400)),
        *((text, None) for text in ("1000000", "Sun, 22 Nov 2099 13:00:00 GMT")),
    ],
)
async def test_when_to_come_back_is_told_in_seconds(
    code: int, value: str, seconds: float | None
) -> None:
    """A date counts from that of the answer, however wrong the clocks are."""
    headers = [(b"Retry-After", value.encode()), (b"Date", DATE.encode())]
    failure = await failed(httpx.Response(code, headers=headers))
    assert failure.retry_after == seconds


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}])
async def test_when_to_come_back_counts_from_now_if_the_answer_has_no_date(
    date: dict[str, str],
) -> None:
    after = format_datetime(datetime.fromtimestamp(time.time() + 60, UTC), usegmt=True)
    failure = await failed(httpx.Response(503, headers={"Retry-After": after, **date}))
    assert failure.retry_after == pytest.approx(59, abs=2)


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

    failure = await result_or_error(asked(broken))
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

    failure = await result_or_error(asked(refused))
    assert isinstance(failure, Unreachable)
    assert failure.cause == f"ConnectError: {word}"


async def test_a_bug_in_the_transport_is_no_failure() -> None:
    def buggy(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    assert isinstance(await result_or_error(asked(buggy)), ZeroDivisionError)


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
