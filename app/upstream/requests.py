"""The request that is sent to a mirror for a call."""

import asyncio
from functools import lru_cache

import httpx

from app.call import Call
from app.settings import UpstreamSettings

_NO_BODY = httpx.ByteStream(b"")


class RequestBuilder:
    """Builds the requests to one mirror, from its base URL and the headers common to all."""

    def __init__(self, base: str, settings: UpstreamSettings) -> None:
        self._base = base
        self._fixed = [
            (b"Host", httpx.URL(base).netloc),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"gzip"),
        ]
        configured = {
            name.encode(): value.get_secret_value().encode()
            for name, value in settings.headers.items()
        }
        self._defaults = [*({b"user-agent": b"tributary"} | configured).items()]
        # Parsing a URL costs more than the rest of a request, and the same URLs come again.
        self._url = lru_cache(maxsize=4096)(self._parse)

    def _parse(self, target: str) -> httpx.URL:
        return httpx.URL(self._base + target)

    def build(self, call: Call, extensions: dict[str, object]) -> httpx.Request:
        context = call.context
        left = context.deadline - asyncio.get_running_loop().time()
        # Each attempt is sent less time than the one before, even after rounding to milliseconds.
        tally = call.tally
        tally.last_sent_timeout_ms = max(min(int(left * 1000), tally.last_sent_timeout_ms - 1), 1)
        defaults = self._defaults
        if context.headers:  # a header of the client's replaces our default
            forwarded = dict(context.headers)
            defaults = [header for header in defaults if header[0] not in forwarded]
        return httpx.Request(
            "GET",
            self._url(call.question.target),
            headers=[
                *self._fixed,
                *defaults,
                *context.headers,
                *context.trace,
                (b"X-Request-ID", context.request_id.encode()),
                (b"X-Request-Timeout-Ms", b"%d" % tally.last_sent_timeout_ms),
                *(call.known.cache_policy.validators if call.known else ()),
            ],
            stream=_NO_BODY,
            extensions=extensions,
        )
