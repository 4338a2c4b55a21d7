"""What the head of a response says: its status, the headers that are read, and the body to come."""

import re
import time
from collections.abc import Iterable, Mapping

from app.call import Call
from app.errors import (
    Forbidden,
    InvalidPayload,
    NotFound,
    TooManyRequests,
    Unauthorized,
    UpstreamStatus,
)
from app.upstream.cache_policy import CACHE_HEADERS, parse_http_date

_JSON = ("application/json", "text/json")
_HEADERS = frozenset(
    {"content-encoding", "content-type", "retry-after", "www-authenticate"} | CACHE_HEADERS
)
"""The response headers that are read, in lower case."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,31}(?=[ ,]|$)")
"""Of a challenge (RFC 9110 §11.6.1). Its parameters may name what is behind us."""


def combined_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that are read, by lower-case name, repeated ones joined (RFC 9110 §5.2).

    A line that only says again what is there is left out, as proxies add them: two equal types of a
    content are one type.

    `httpx.Headers` would decode all headers, to guess their encoding, before it returns one.
    """
    headers: dict[str, str] = {}
    for name, value in raw:
        field = name.decode("latin-1").lower()
        if field in _HEADERS:
            text = value.decode("latin-1")
            before = headers.get(field, text)
            headers[field] = text if text == before else f"{before}, {text}"
    return headers


def status_failure(
    code: int, headers: Mapping[str, str], call: Call
) -> NotFound | Unauthorized | Forbidden | TooManyRequests | UpstreamStatus:
    """What a status other than 200 means for the call.

    Without headers of the client's, a 401 or 403 is about credentials of ours.
    """
    if call.context.headers and code == 401:
        scheme = _SCHEME.match(headers.get("www-authenticate", ""))
        return Unauthorized(scheme[0]) if scheme else Unauthorized()
    if call.context.headers and code == 403:
        return Forbidden()
    if code == 404 and call.question.not_found_on_404:
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


def is_gzipped_json(headers: Mapping[str, str]) -> bool:
    """Whether the JSON that a response announces is compressed; anything else is refused."""
    media_type = headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type not in _JSON and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise InvalidPayload("the answer is not JSON")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise InvalidPayload("the answer is compressed in a way that was not asked for")
    return coding != "identity"
