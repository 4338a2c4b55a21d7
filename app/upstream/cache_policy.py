"""How long an answer may be stored and used, by RFC 9111 (as a shared cache) and RFC 5861.

Sections without an RFC are of RFC 9111.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

from app.call import UNCACHEABLE, CachePolicy, Header
from app.settings import UpstreamSettings

CACHE_HEADERS = frozenset(
    {"age", "cache-control", "date", "expires", "etag", "last-modified", "vary"}
)
"""The response headers that are read here, in lower case."""

_PER_RESPONSE = frozenset({"age", "date"})
_DIRECTIVE = re.compile(r"([a-z-]+)(?:\s*=\s*(?:\"([^\"]*)\"|([^\s,]*)))?")
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]{0,250}"')

# Headers that differ in each of our requests: an answer that varies by one fits no other request.
_PER_REQUEST = frozenset({"*", "x-request-id", "x-request-timeout-ms", "traceparent", "tracestate"})


def cache_policy(
    headers: Mapping[str, str],
    settings: UpstreamSettings,
    *,
    request_time: float,
    response_time: float,
    now: float,
) -> CachePolicy:
    """How long an answer with these headers may be used.

    `request_time` and `response_time` are when the request was sent and the answer was there, in
    Unix seconds; `now` is `response_time` on the event loop's clock.
    """
    control = _directives(headers.get("cache-control", ""))
    if "no-store" in control or "private" in control or _varies(headers.get("vary", "")):
        return UNCACHEABLE
    lifetime = _freshness_lifetime(headers, control, response_time)
    # Possibly before now: an answer may arrive stale, and its windows count from when it became so.
    stale_from = now + (
        settings.ttl
        if lifetime is None
        else lifetime - _current_age(headers, request_time, response_time)
    )
    fresh_until = max(stale_from, now)
    while_revalidate, if_error = (
        max(stale_from + window, fresh_until) for window in _windows(control, settings)
    )
    validators = _validators(headers)
    if max(while_revalidate, if_error) <= now and not validators:
        return UNCACHEABLE  # it could never be used
    stored_headers = {
        name: text for name, text in headers.items() if name in CACHE_HEADERS - _PER_RESPONSE
    }
    return CachePolicy(fresh_until, while_revalidate, if_error, validators, stored_headers)


def confirms(headers: Mapping[str, str], stored: Mapping[str, str]) -> bool:
    """Whether a 304 with `headers` is about the answer that was `stored` with those.

    RFC 9111 §4.3.4: a strong validator selects what was stored with the same one, a weak one what
    was stored with an equivalent one; without a validator, it is the only one that there is.
    """
    tag = headers.get("etag")
    if tag is not None:
        known = stored.get("etag", "")
        return tag == known or (tag.startswith("W/") and tag[2:] == known.removeprefix("W/"))
    modified = headers.get("last-modified")
    return modified is None or modified == stored.get("last-modified")


def age_value(headers: Mapping[str, str]) -> float:
    """§5.1: the `Age` header, seconds that an answer has spent in caches on the way; 0 without."""
    return _seconds(headers.get("age", "0").partition(",")[0].strip())


@lru_cache(256)
def parse_http_date(text: str) -> float | None:
    """An HTTP-date (RFC 9110 §5.6.7) in Unix seconds; None if it is invalid."""
    try:
        when = parsedate_to_datetime(text)
        # The form of C's asctime() has no zone, and means UTC.
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _freshness_lifetime(
    headers: Mapping[str, str], control: Mapping[str, str], response_time: float
) -> float | None:
    """§4.2.1: seconds from the origin's answer until it is stale; None if it does not say."""
    if "no-cache" in control:
        return 0.0
    # §5.2.2.10: s-maxage overrides max-age for a shared cache, which this is.
    for directive in ("s-maxage", "max-age"):
        if directive in control:
            return _seconds(control[directive])
    if "expires" in headers:
        expires = parse_http_date(headers["expires"])
        date_value = parse_http_date(headers.get("date", ""))
        if expires is None:  # §5.3: an invalid date is in the past
            return 0.0
        return max(expires - (response_time if date_value is None else date_value), 0.0)
    return None


def _current_age(headers: Mapping[str, str], request_time: float, response_time: float) -> float:
    """§4.2.3. A Date has whole seconds, so the apparent age is counted in whole seconds too."""
    date_value = parse_http_date(headers.get("date", ""))
    apparent = 0.0 if date_value is None else max(response_time // 1 - date_value, 0.0)
    return max(apparent, age_value(headers) + max(response_time - request_time, 0.0))


def _windows(control: Mapping[str, str], settings: UpstreamSettings) -> tuple[float, float]:
    """Seconds beyond freshness for stale-while-revalidate and for stale-if-error (RFC 5861).

    The upstream's directives go before our settings, and what forbids stale answers (§4.2.4) before
    both. s-maxage also forbids them (§5.2.2.10), but not where the upstream allows them.
    """
    if not control.keys().isdisjoint({"no-cache", "must-revalidate", "proxy-revalidate"}):
        return 0.0, 0.0
    has_s_maxage = "s-maxage" in control

    def window(directive: str, setting: float) -> float:
        if directive in control:
            return _seconds(control[directive])
        return 0.0 if has_s_maxage else setting

    return (
        window("stale-while-revalidate", settings.stale_while_revalidate),
        window("stale-if-error", settings.stale_if_error),
    )


def _validators(headers: Mapping[str, str]) -> tuple[Header, ...]:
    """The conditions of a revalidation (RFC 9110 §13.1.2, §13.1.3): both, where there are both."""
    validators: list[Header] = []
    tag, modified = headers.get("etag"), headers.get("last-modified")
    if tag is not None and _ETAG.fullmatch(tag):
        validators.append((b"If-None-Match", tag.encode()))
    if modified is not None and modified.isascii() and parse_http_date(modified) is not None:
        validators.append((b"If-Modified-Since", modified.encode()))
    return tuple(validators)


@lru_cache(256)
def _directives(control: str) -> Mapping[str, str]:
    directives: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(control.lower()):
        directives.setdefault(match[1], match[2] or match[3] or "")  # §4.2.1: the first counts
    return directives


@lru_cache(256)
def _varies(vary: str) -> bool:
    """§4.1: whether two calls with equal forwarded headers could get different answers."""
    return not _PER_REQUEST.isdisjoint(name.strip().lower() for name in vary.split(","))


def _seconds(value: str) -> float:
    """§1.2.2: delta-seconds, at most 2^31; what is invalid counts as 0, and so as stale."""
    if not (value.isascii() and value.isdigit()):
        return 0.0
    digits = value.lstrip("0") or "0"
    return float(min(int(digits), 2**31)) if len(digits) < 11 else 2.0**31
