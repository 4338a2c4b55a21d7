"""One exchange with an upstream: a request sent, its response checked and decoded."""

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Iterable, Mapping

import httpx

from app.call import Answer, Call, Emit, Fetch
from app.errors import (
    InvalidPayload,
    NotConfirmed,
    NotFound,
    Overloaded,
    Timeout,
    TooManyRequests,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.events import Reconnected
from app.settings import UpstreamSettings
from app.upstream.cache_policy import (
    CACHE_HEADERS,
    age_value,
    cache_policy,
    confirms,
    parse_http_date,
)
from app.upstream.client import Client
from app.upstream.decode import gunzip
from app.upstream.requests import RequestBuilder

_NO_CAPACITY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""What we lack ourselves is no fault of the upstream's."""
_JSON = ("application/json", "text/json")
_HEADERS = frozenset({"content-encoding", "content-type", "retry-after"} | CACHE_HEADERS)
"""The response headers that are read, in lower case."""


def exchange(
    client: Client, url: str, settings: UpstreamSettings, emit: Emit, *, mirror: int
) -> Fetch:
    """Ask the mirror at `url` once; raise a `Failure` or give an answer."""
    requests = RequestBuilder(url, settings)
    # A handshake that takes half of the attempt's time has probably lost a packet: fail while there
    # is time for a retry. Reads have no timeout of their own, only the attempt's as a whole.
    timeouts = {"connect": settings.attempt_timeout / 2}
    loop_time = asyncio.get_running_loop().time

    async def send(call: Call) -> Answer:
        request_time, requested_at = time.time(), loop_time()
        extensions = {
            "timeout": timeouts,
            "on_reconnect": lambda: emit(Reconnected(call, mirror)),
        }
        request = requests.build(call, extensions)
        try:
            response = await client.send(request, stream=True)
            try:
                headers = _combined_headers(response.headers.raw)
                known = _confirmed(call, response.status_code, headers)
                if known is None:
                    if response.status_code != 200:
                        raise _status_failure(
                            response.status_code, headers, call.question.not_found_on_404
                        )
                    body = await _read(response, headers, settings.max_body)
            finally:
                await _raw_stream(response).aclose()
        except httpx.TimeoutException as error:
            raise Timeout("no answer in time", cause=_cause(error)) from error
        except httpx.TransportError as error:
            if _errno(error) in _NO_CAPACITY:
                raise Overloaded("no free connection", cause=_cause(error)) from error
            raise Unreachable("the connection failed", cause=_cause(error)) from error
        if known is not None:
            # RFC 9111 §4.3.4: the stored answer is fresh again, with the headers of the 304.
            call.tally.validated = True
            headers = {**known.cache_policy.stored_headers, **headers}
            data = known.data
        else:
            data = call.question.decode(body)
        response_time = time.time()
        return Answer(
            data,
            as_of=max(response_time - age_value(headers), 0.0),
            requested_at=requested_at,
            cache_policy=cache_policy(
                headers,
                settings,
                request_time=request_time,
                response_time=response_time,
                now=loop_time(),
            ),
        )

    return send


def _confirmed(call: Call, status: int, headers: Mapping[str, str]) -> Answer | None:
    """The stored answer, if this is the 304 that its validators asked for (RFC 9111 §4.3.4).

    Raises `NotConfirmed` for a 304 that is about another one.
    """
    known = call.known
    if status != 304 or known is None or not known.cache_policy.validators:
        return None
    if not confirms(headers, known.cache_policy.stored_headers):
        raise NotConfirmed("the upstream confirmed another answer than the one that is stored")
    return known


def _combined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that are read, by lower-case name, repeated ones joined (RFC 9110 §5.2).

    `httpx.Headers` would decode all headers, to guess their encoding, before it returns one.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        field = name.decode("latin-1").lower()
        if field in _HEADERS:
            text = value.decode("latin-1")
            headers[field] = f"{headers[field]}, {text}" if field in headers else text
    return headers


def _status_failure(
    code: int, headers: Mapping[str, str], not_found_on_404: bool
) -> NotFound | TooManyRequests | UpstreamStatus:
    if code == 404 and not_found_on_404:
        return NotFound("there is no such resource", cause="HTTP 404")
    after = _retry_after(headers)
    if code == 429:
        return TooManyRequests(
            "the upstream asks for fewer calls", cause="HTTP 429", retry_after=after
        )
    return UpstreamStatus(code, retry_after=after)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds (RFC 9110 §10.2.3); a date is relative to the upstream's `Date`, if it sends one."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 7 else None
    date = parse_http_date(text)
    if date is None:
        return None
    sent = parse_http_date(headers.get("date", ""))
    left = date - (time.time() if sent is None else sent)
    return max(left, 0.0) if left < 1_000_000 else None


async def _read(response: httpx.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """The body of a response that is JSON, in memory, never more than `limit` bytes of it."""
    media_type = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type not in _JSON and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise InvalidPayload("the answer is not JSON")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise InvalidPayload("the answer is compressed in a way that was not asked for")
    chunks: list[bytes] = []
    size = 0
    async for chunk in _raw_stream(response):
        size += len(chunk)
        if size > limit:
            raise InvalidPayload("the body is too large")
        chunks.append(chunk)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return body if coding == "identity" else gunzip(body, limit)


def _raw_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it arrives: httpx's decoders decompress without a bound."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


def _errno(error: httpx.TransportError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None


def _cause(error: httpx.TransportError) -> str:
    """The cause for the log: class names and the system's messages, nothing the upstream sent."""
    cause = error.__cause__
    match cause:
        case ssl.SSLError(reason=str(message)):
            pass
        case socket.gaierror(strerror=str(message)):
            pass
        case OSError(errno=int(number)):
            message = os.strerror(number)
        case _:
            message = type(cause).__name__
    return f"{type(error).__name__}: {message}"
