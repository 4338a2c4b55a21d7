"""One exchange with an upstream: a request sent, its response checked, read, ready to decode."""

import asyncio
import errno
import time
from collections.abc import Mapping

import httpx

from app.call import Answer, Call, Emit, Exchange, Reply
from app.errors import (
    InvalidPayload,
    NotConfirmed,
    Overloaded,
    Timeout,
    Unreachable,
)
from app.resilience.events import Reconnected
from app.settings import UpstreamSettings
from app.tls_files import TlsContext
from app.upstream.cache_policy import (
    age_value,
    cache_policy,
    confirms,
)
from app.upstream.client import Client
from app.upstream.error_cause import error_cause
from app.upstream.gzip_body import gunzip, gunzipped_size
from app.upstream.requests import RequestBuilder
from app.upstream.response_head import combined_headers, is_gzipped_json, status_failure

_NO_CAPACITY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EADDRNOTAVAIL})
"""What we lack ourselves is no fault of the upstream's."""


def exchange(
    client: Client, url: str, settings: UpstreamSettings, emit: Emit, *, mirror: int
) -> Exchange:
    """Ask the mirror at `url` once; raise a `Failure` or give its reply."""
    requests = RequestBuilder(url, settings)
    # A handshake that takes half of the attempt's time has probably lost a packet: fail while there
    # is time for a retry. Reads have no timeout of their own, only the attempt's as a whole.
    timeouts = {"connect": settings.attempt_timeout / 2}
    tls = TlsContext(settings.tls_files) if settings.tls_files is not None else None
    loop_time = asyncio.get_running_loop().time

    async def send(call: Call) -> Reply:
        request_time, requested_at = time.time(), loop_time()
        extensions: dict[str, object] = {
            "timeout": timeouts,
            "tls": tls,
            "on_reconnect": lambda: emit(Reconnected(call, mirror)),
        }
        request = requests.build(call, extensions)
        body, gzipped = b"", False
        try:
            response = await client.send(request, stream=True)
            try:
                headers = combined_headers(response.headers.raw)
                known = _confirmed(call, response.status_code, headers)
                if known is None:
                    if response.status_code != 200:
                        raise status_failure(response.status_code, headers, call)
                    gzipped = is_gzipped_json(headers)
                    body = await _read(response, settings.max_body)
            finally:
                await _raw_stream(response).aclose()
        except httpx.TimeoutException as error:
            raise Timeout("no answer in time", cause=error_cause(error)) from error
        except httpx.TransportError as error:
            if _errno(error) in _NO_CAPACITY:
                raise Overloaded("no free connection", cause=error_cause(error)) from error
            raise Unreachable("the connection failed", cause=error_cause(error)) from error
        response_time, now = time.time(), loop_time()
        if known is not None:
            # RFC 9111 §4.3.4: the stored answer is fresh again, with the headers of the 304.
            call.tally.validated = True
            headers = {**known.cache_policy.stored_headers, **headers}

        def decode() -> Answer:
            if known is not None:
                data = known.data
            else:
                data = call.question.decode(gunzip(body, settings.max_body) if gzipped else body)
            return Answer(
                data,
                as_of=max(response_time - age_value(headers), 0.0),
                requested_at=requested_at,
                cache_policy=cache_policy(
                    headers,
                    settings,
                    request_time=request_time,
                    response_time=response_time,
                    now=now,
                ),
            )

        return Reply(gunzipped_size(body) if gzipped else len(body), decode)

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


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The body of a response as it was sent, never more than `limit` bytes of it."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in _raw_stream(response):
        size += len(chunk)
        if size > limit:
            raise InvalidPayload("the body is too large")
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _raw_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    """The body as it arrives: httpx's decoders decompress without a bound."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    return response.stream


def _errno(error: httpx.TransportError) -> int | None:
    return error.__cause__.errno if isinstance(error.__cause__, OSError) else None
