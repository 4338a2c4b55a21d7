"""Asking whether what we have is still good (RFC 9110 §13, RFC 9111 §4.3)."""

import time
from dataclasses import replace

import httpx
import pytest

from app.call import UNCACHEABLE, Answer, Call, Data, Question
from app.errors import UpstreamStatus
from app.settings import UpstreamSettings
from tests.fakes import a_call, a_context, an_answer, now, result_or_error
from tests.upstream.asking import BODY, JSON, Stream, sent

pytestmark = pytest.mark.anyio

OLD = b"[old]"


def undecoded(_: bytes) -> Data:
    raise AssertionError("there is nothing to decode")


QUESTION = Question("posts", "/posts", undecoded)


async def stored(**headers: str) -> Answer:
    """What came with these headers, an hour ago by the clock on the wall."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(200, headers=JSON | named, stream=Stream(BODY))
    answer = await sent(lambda _: response, a_call(), UpstreamSettings(ttl=1))
    return replace(answer, data=Data(OLD, dropped=2), as_of=answer.as_of - 3600)


async def confirmed(known: Answer, **headers: str) -> tuple[Answer, Call]:
    """What becomes of a stored answer of which a 304 with these headers says that it is good."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    call = Call(QUESTION, a_context(), known=known)
    return await sent(lambda _: httpx.Response(304, headers=named), call), call


async def test_an_answer_that_is_still_good_costs_no_body_and_no_decoding() -> None:
    known = await stored(etag='"a"')
    stream = Stream(b"never read")
    call = Call(QUESTION, a_context(), known=known)
    answer = await sent(lambda _: httpx.Response(304, stream=stream), call)
    assert answer.data is known.data
    assert (answer.stale, call.tally.validated) == (False, True)
    assert (stream.read, stream.closed) == (0, True)


async def test_it_is_good_as_of_now_or_of_when_a_cache_on_the_way_had_it() -> None:
    known = await stored(etag='"a"')
    for age in (0, 600):
        answer, _ = await confirmed(known, age=str(age))
        assert answer.as_of == pytest.approx(time.time() - age, abs=5)


@pytest.mark.parametrize(
    ("then", "now_said", "seconds"),
    [
        ({"cache_control": "max-age=60"}, {}, 60),
        ({"cache_control": "max-age=60"}, {"cache_control": "max-age=10"}, 10),
        ({"cache_control": "max-age=60"}, {"cache_control": "no-cache"}, 0),
        ({"cache_control": "max-age=60", "age": "50"}, {}, 60),
        ({"cache_control": "max-age=60"}, {"age": "50"}, 10),
        ({"cache_control": "no-cache"}, {}, 0),
        ({"cache_control": "no-cache"}, {"cache_control": "max-age=10"}, 10),
    ],
)
async def test_how_long_it_is_good_is_what_is_said_now_over_what_was_said_then(
    then: dict[str, str], now_said: dict[str, str], seconds: float
) -> None:
    answer, _ = await confirmed(await stored(etag='"a"', **then), **now_said)
    assert answer.cache_policy.fresh_until - now() == pytest.approx(seconds, abs=1)
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"a"'),)


async def test_what_a_304_says_holds_for_the_next_one_too() -> None:
    known = await stored(etag='"a"', cache_control="max-age=60")
    once, _ = await confirmed(known, cache_control="max-age=10", etag='"b"', age="5")
    twice, _ = await confirmed(once)
    assert twice.cache_policy.fresh_until - now() == pytest.approx(10, abs=1)
    assert twice.cache_policy.validators == ((b"If-None-Match", b'"b"'),)
    assert twice.data is known.data


async def test_a_304_may_forbid_to_keep_it_any_longer() -> None:
    answer, _ = await confirmed(await stored(etag='"a"'), cache_control="no-store")
    assert (answer.data.json, answer.cache_policy) == (OLD, UNCACHEABLE)


async def test_another_answer_takes_the_place_of_the_one_we_had() -> None:
    known = await stored(etag='"a"', cache_control="max-age=60")
    response = httpx.Response(200, headers=JSON | {"ETag": '"b"'}, stream=Stream(b"new"))
    call = Call(replace(QUESTION, decode=Data), a_context(), known=known)
    answer = await sent(lambda _: response, call)
    assert (answer.data, call.tally.validated) == (Data(b"new"), False)
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"b"'),)
    assert "cache-control" not in answer.cache_policy.stored_headers


@pytest.mark.parametrize("known", [None, an_answer()], ids=["nothing known", "no validators"])
async def test_a_304_that_nobody_asked_for_is_a_status_like_any_other(known: Answer | None) -> None:
    call = Call(QUESTION, a_context(), known=known)
    failure = await result_or_error(sent(lambda _: httpx.Response(304, headers=JSON), call))
    assert isinstance(failure, UpstreamStatus)
    assert (failure.cause, call.tally.validated) == ("HTTP 304", False)
