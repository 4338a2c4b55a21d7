"""What a response becomes: an answer with its cache policy, or the failure that fits."""

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
from tests.upstream.mock_transport import JSON, POSTS, Body, answer_from, failure_from, fetch

pytestmark = pytest.mark.anyio

SECRET = "secret-of-the-upstream"
DATE = "Sun, 22 Nov 2026 13:00:00 GMT"


async def test_an_answer_has_its_data_as_of_and_cache_policy() -> None:
    await asyncio.sleep(100)
    began = time.time()
    answer = await answer_from(cache_control="max-age=60", age="10", etag='"a"')
    assert (answer.data.json, answer.data.dropped, answer.stale) == (POSTS, 0, False)
    # An Age means that a cache on the way has had it for as long.
    assert began <= answer.as_of + 10 <= time.time()
    assert answer.cache_policy.fresh_until == pytest.approx(now() + 50, abs=1)
    assert answer.cache_policy.fresh_until <= now() + 50
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"a"'),)


async def test_the_response_delay_counts_towards_the_age() -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        time.sleep(0.05)  # ages are measured by the wall clock, which is not virtual
        return httpx.Response(200, headers=JSON | {"Cache-Control": "max-age=60"}, content=POSTS)

    assert now() + 59 < (await fetch(slow)).cache_policy.fresh_until <= now() + 59.95


async def test_repeated_cache_control_lines_are_combined() -> None:
    lines = [("Cache-Control", "public"), ("cache-control", "max-age=60"), *JSON.items()]
    answer = await fetch(lambda _: httpx.Response(200, headers=lines, stream=Body(POSTS)))
    assert answer.cache_policy.fresh_until == pytest.approx(now() + 60, abs=1)


async def test_without_cache_control_the_configured_ttl_counts() -> None:
    response = httpx.Response(200, headers=JSON, stream=Body(POSTS))
    answer = await fetch(lambda _: response, settings=UpstreamSettings(ttl=7))
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
    failure = await failure_from(httpx.Response(code, headers=JSON, content=POSTS))
    assert type(failure) is kind
    assert failure.cause == f"HTTP {code}"


@pytest.mark.parametrize(
    ("codes", "retry_on", "breaker", "retryable"),
    [
        (("408", "500", "511", "599"), "any_mirror", "failure", True),
        (("218", "299", "399", "420", "499"), "never", "success", False),
        (("600", "666", "777", "999", "000", "007", "099"), "never", "failure", False),
    ],
)
async def test_of_the_statuses_that_are_not_standard_only_a_5xx_is_retried(
    codes: tuple[str, ...], retry_on: str, breaker: str, retryable: bool
) -> None:
    for code in codes:
        failure = await failure_from(httpx.Response(int(code)))
        assert type(failure) is UpstreamStatus
        assert (failure.policy.retry_on, failure.policy.breaker) == (retry_on, breaker)
        assert (failure.retryable, failure.detail) == (retryable, f"the upstream answered {code}")


@pytest.mark.parametrize(("question", "kind"), [(user(1), NotFound), (posts_by(1), UpstreamStatus)])
async def test_a_404_is_not_found_for_a_user_only(question: Question, kind: type[Failure]) -> None:
    assert type(await failure_from(httpx.Response(404, json={}), question)) is kind


async def test_a_429_may_be_retried_unlike_our_own_overload() -> None:
    failure = await failure_from(httpx.Response(429))
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
async def test_retry_after_is_parsed_to_seconds(
    code: int, value: str, seconds: float | None
) -> None:
    """A date counts from the response's own `Date`, however wrong the clocks are."""
    headers = [(b"Retry-After", value.encode()), (b"Date", DATE.encode())]
    failure = await failure_from(httpx.Response(code, headers=headers))
    assert failure.retry_after == seconds


@pytest.mark.parametrize("date", [{}, {"Date": "yesterday"}])
async def test_a_retry_after_date_counts_from_now_if_the_response_has_no_date(
    date: dict[str, str],
) -> None:
    after = format_datetime(datetime.fromtimestamp(time.time() + 60, UTC), usegmt=True)
    failure = await failure_from(httpx.Response(503, headers={"Retry-After": after, **date}))
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
async def test_a_transport_error_is_a_timeout_or_unreachable_and_its_message_is_not_repeated(
    raised: httpx.TransportError, kind: type[Failure], cause: str
) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise raised

    failure = await result_or_error(fetch(broken))
    assert isinstance(failure, kind)
    assert (failure.cause or "").startswith(cause)
    assert SECRET not in f"{failure.detail}{failure.cause}"


@pytest.mark.parametrize(
    ("underlying", "message"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError(111, "Connect call failed ('10.0.0.1', 80)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ZeroDivisionError(SECRET), "ZeroDivisionError"),
        (OSError(SECRET), "OSError"),
    ],
)
async def test_the_cause_of_a_connect_error_is_the_message_of_the_operating_system(
    underlying: Exception, message: str
) -> None:
    def refused(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(SECRET) from underlying

    failure = await result_or_error(fetch(refused))
    assert isinstance(failure, Unreachable)
    assert failure.cause == f"ConnectError: {message}"


async def test_a_bug_in_the_transport_is_not_turned_into_a_failure() -> None:
    def buggy(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    assert isinstance(await result_or_error(fetch(buggy)), ZeroDivisionError)


@pytest.mark.parametrize("status", [200, 403, 500])
@pytest.mark.parametrize("question", [user(1), posts_by(1)])
async def test_a_failure_repeats_neither_body_nor_headers_nor_url_of_the_upstream(
    status: int, question: Question
) -> None:
    body = b'{"id":"%b","%b":[' % (SECRET.encode(), SECRET.encode())
    for content in (body, body + b"]}"):
        response = httpx.Response(status, headers=JSON | {"X-Internal": SECRET}, content=content)
        failure = await failure_from(response, question)
        texts = f"{failure.detail} {failure.cause} {failure}"
        assert SECRET not in texts
        assert "mirror.test" not in texts
