"""Revalidation of a stored answer: conditional requests and 304 (RFC 9110 §13, RFC 9111 §4.3)."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from app.call import UNCACHEABLE, Answer, Call, Data, Question
from app.errors import NotConfirmed, UpstreamStatus
from app.settings import UpstreamSettings
from app.upstream.client import Client
from app.upstream.exchange import exchange
from tests.fakes import a_call, a_context, an_answer, now, result_or_error
from tests.upstream.mock_transport import JSON, POSTS, Body, send

pytestmark = pytest.mark.anyio

OLD = b"[old]"


def decode_nothing(_: bytes) -> Data:
    raise AssertionError("there is nothing to decode")


QUESTION = Question("posts", "/posts", decode_nothing)


async def stored_answer(**headers: str) -> Answer:
    """An answer that came with these headers an hour ago, by the wall clock."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(200, headers=JSON | named, stream=Body(POSTS))
    answer = await send(lambda _: response, a_call(), UpstreamSettings(ttl=1))
    return replace(answer, data=Data(OLD, dropped=2), as_of=answer.as_of - 3600)


async def revalidate(known: Answer, **headers: str) -> tuple[Answer, Call]:
    """What `known` becomes when a 304 with these headers confirms it, and the call."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    call = Call(QUESTION, a_context(), known=known)
    return await send(lambda _: httpx.Response(304, headers=named), call), call


async def test_a_304_reuses_the_stored_data_without_reading_or_decoding_a_body() -> None:
    known = await stored_answer(etag='"a"')
    body = Body(b"never read")
    call = Call(QUESTION, a_context(), known=known)
    answer = await send(lambda _: httpx.Response(304, stream=body), call)
    assert answer.data is known.data
    assert (answer.stale, call.tally.validated) == (False, True)
    assert (body.chunks_read, body.closed) == (0, True)


async def test_a_304_sets_as_of_to_now_minus_its_age() -> None:
    known = await stored_answer(etag='"a"')
    for age in (0, 600):
        answer, _ = await revalidate(known, age=str(age))
        assert answer.as_of == pytest.approx(time.time() - age, abs=5)


@pytest.mark.parametrize(
    ("stored_headers", "headers_of_304", "seconds"),
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
async def test_cache_control_of_a_304_overrides_the_stored_one(
    stored_headers: dict[str, str], headers_of_304: dict[str, str], seconds: float
) -> None:
    answer, _ = await revalidate(
        await stored_answer(etag='"a"', **stored_headers), **headers_of_304
    )
    assert answer.cache_policy.fresh_until - now() == pytest.approx(seconds, abs=1)
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"a"'),)


async def test_cache_control_and_etag_of_a_304_are_stored_for_the_next_revalidation() -> None:
    known = await stored_answer(etag='"a"', cache_control="max-age=60")
    once, _ = await revalidate(known, cache_control="max-age=10", etag='W/"a"', age="5")
    twice, _ = await revalidate(once)
    assert twice.cache_policy.fresh_until - now() == pytest.approx(10, abs=1)
    assert twice.cache_policy.validators == ((b"If-None-Match", b'W/"a"'),)
    assert twice.data is known.data


MONDAY, TUESDAY = "Mon, 02 Nov 2026 08:00:00 GMT", "Tue, 03 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("stored_headers", "headers_of_304"),
    [
        ({"etag": '"a"'}, {"etag": '"b"'}),
        ({"etag": 'W/"a"'}, {"etag": '"a"'}),
        ({"etag": '"a"'}, {"etag": 'W/"b"'}),
        ({"last_modified": MONDAY}, {"last_modified": TUESDAY}),
        ({"last_modified": MONDAY}, {"etag": '"a"'}),
    ],
)
async def test_a_304_with_a_validator_of_another_answer_confirms_nothing(
    stored_headers: dict[str, str], headers_of_304: dict[str, str]
) -> None:
    known = await stored_answer(cache_control="max-age=60", **stored_headers)
    with pytest.raises(NotConfirmed):
        await revalidate(known, **headers_of_304)


@pytest.mark.parametrize(
    ("stored_headers", "headers_of_304"),
    [
        ({"etag": 'W/"a"'}, {"etag": 'W/"a"'}),
        ({"etag": '"a"', "last_modified": MONDAY}, {"last_modified": MONDAY}),
        ({"last_modified": MONDAY}, {}),
    ],
)
async def test_a_304_with_the_same_validator_or_none_confirms_what_is_stored(
    stored_headers: dict[str, str], headers_of_304: dict[str, str]
) -> None:
    known = await stored_answer(cache_control="max-age=60", **stored_headers)
    answer, _ = await revalidate(known, **headers_of_304)
    assert answer.data is known.data


async def test_as_of_is_never_before_1970_whatever_the_age_says() -> None:
    answer, _ = await revalidate(await stored_answer(etag='"a"'), age="99999999999")
    assert answer.as_of == 0


class SlowBody(Body):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(3)
        async for chunk in super().__aiter__():
            yield chunk


@pytest.mark.parametrize("known", [None, '"a"'], ids=["200", "304"])
async def test_an_answer_says_when_it_was_asked_for_and_not_when_it_came(known: str | None) -> None:
    """By that, the cache knows which of two answers is the newer one."""
    stored = None if known is None else await stored_answer(etag=known)
    await asyncio.sleep(5)

    async def slow(_: httpx.Request) -> httpx.Response:
        await asyncio.sleep(2)
        if stored is not None:
            return httpx.Response(304)
        return httpx.Response(200, headers=JSON, stream=SlowBody(POSTS))

    call = Call(replace(QUESTION, decode=Data), a_context(60.0), known=stored)
    async with Client(httpx.MockTransport(slow)) as client:
        ask = exchange(client, "http://mirror.test", UpstreamSettings(), lambda _: None, mirror=0)
        answer = (await ask(call)).decode()
    assert (answer.requested_at, now()) == (5.0, 7.0 if stored else 10.0)


async def test_a_304_with_no_store_makes_the_answer_uncacheable() -> None:
    answer, _ = await revalidate(await stored_answer(etag='"a"'), cache_control="no-store")
    assert (answer.data.json, answer.cache_policy) == (OLD, UNCACHEABLE)


async def test_a_200_to_a_revalidation_replaces_the_stored_data_and_headers() -> None:
    known = await stored_answer(etag='"a"', cache_control="max-age=60")
    response = httpx.Response(200, headers=JSON | {"ETag": '"b"'}, stream=Body(b"new"))
    call = Call(replace(QUESTION, decode=Data), a_context(), known=known)
    answer = await send(lambda _: response, call)
    assert (answer.data, call.tally.validated) == (Data(b"new"), False)
    assert answer.cache_policy.validators == ((b"If-None-Match", b'"b"'),)
    assert "cache-control" not in answer.cache_policy.stored_headers


@pytest.mark.parametrize("known", [None, an_answer()], ids=["nothing stored", "no validators"])
async def test_a_304_to_an_unconditional_request_is_a_failure(known: Answer | None) -> None:
    call = Call(QUESTION, a_context(), known=known)
    failure = await result_or_error(send(lambda _: httpx.Response(304, headers=JSON), call))
    assert isinstance(failure, UpstreamStatus)
    assert (failure.cause, call.tally.validated) == ("HTTP 304", False)
