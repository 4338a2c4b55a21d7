"""How long an answer may be kept, and for what: RFC 9111 and RFC 5861, as a shared cache."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

from app.call import UNCACHEABLE, CachePolicy, Header
from app.settings import UpstreamSettings

READ = frozenset({"age", "cache-control", "date", "expires", "etag", "last-modified", "vary"})
"""The headers that count, in lower case."""

_OF_ONE_ANSWER = frozenset({"age", "date"})
_DIRECTIVE = re.compile(r"([a-z-]+)(?:\s*=\s*(?:\"([^\"]*)\"|([^\s,]*)))?")
_ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]{0,250}"')

# What differs in each of our requests: an answer that depends on it fits no other request.
_OURS = frozenset({"*", "x-request-id", "x-request-timeout-ms", "traceparent", "tracestate"})


def cache_policy(
    headers: Mapping[str, str],
    settings: UpstreamSettings,
    *,
    request_time: float,
    response_time: float,
    now: float,
) -> CachePolicy:
    """How long an answer with these headers may be kept.

    `request_time` and `response_time` are when the request went out and the answer was there, both
    in Unix seconds; `now` is `response_time` on the event loop's clock.
    """
    control = _directives(headers.get("cache-control", ""))
    if "no-store" in control or "private" in control or _varies(headers.get("vary", "")):
        return UNCACHEABLE
    lifetime = _freshness_lifetime(headers, control, response_time)
    # It may have been stale for a while when it arrived: staleness counts from then.
    edge = now + (
        settings.ttl
        if lifetime is None
        else lifetime - _current_age(headers, request_time, response_time)
    )
    fresh = max(edge, now)
    while_revalidate, if_error = (
        max(edge + window, fresh) for window in _windows(control, settings)
    )
    validators = _validators(headers)
    if max(while_revalidate, if_error) <= now and not validators:
        return UNCACHEABLE  # it could never be used
    stored_headers = {name: text for name, text in headers.items() if name in READ - _OF_ONE_ANSWER}
    return CachePolicy(fresh, while_revalidate, if_error, validators, stored_headers)


def age(headers: Mapping[str, str]) -> float:
    """Seconds that an answer has spent in caches on the way, as it says (RFC 9111 §5.1)."""
    return _seconds(headers.get("age", "0").partition(",")[0].strip())


@lru_cache(256)
def instant(text: str) -> float | None:
    """An HTTP-date (RFC 9110 §5.6.7) in Unix seconds; None if it is none."""
    try:
        when = parsedate_to_datetime(text)
        # The form of C's asctime() has no zone, and means UTC.
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _freshness_lifetime(
    headers: Mapping[str, str], control: Mapping[str, str], response_time: float
) -> float | None:
    """§4.2.1: seconds since the origin made the answer; None if it does not say."""
    if "no-cache" in control:
        return 0.0
    # §5.2.2.10: s-maxage overrides max-age for a shared cache, which this is.
    for directive in ("s-maxage", "max-age"):
        if directive in control:
            return _seconds(control[directive])
    if "expires" in headers:
        expires = instant(headers["expires"])
        made = instant(headers.get("date", ""))
        if expires is None:  # §5.3: an invalid date is in the past
            return 0.0
        return max(expires - (response_time if made is None else made), 0.0)
    return None


def _current_age(headers: Mapping[str, str], request_time: float, response_time: float) -> float:
    """§4.2.3. A Date has whole seconds, so the time until now is counted in whole ones too."""
    made = instant(headers.get("date", ""))
    apparent = 0.0 if made is None else max(response_time // 1 - made, 0.0)
    return max(apparent, age(headers) + max(response_time - request_time, 0.0))


def _windows(control: Mapping[str, str], settings: UpstreamSettings) -> tuple[float, float]:
    """Seconds beyond freshness: while revalidating, and if nobody can be asked.

    What the upstream says goes before our settings, and §4.2.4 before both; s-maxage forbids it as
    well, but whoever says stale-while-revalidate beside it means what they say.
    """
    if not control.keys().isdisjoint({"no-cache", "must-revalidate", "proxy-revalidate"}):
        return 0.0, 0.0
    said = "s-maxage" in control

    def window(directive: str, setting: float) -> float:
        if directive in control:
            return _seconds(control[directive])
        return 0.0 if said else setting

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
    if modified is not None and modified.isascii() and instant(modified) is not None:
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
    return not _OURS.isdisjoint(name.strip().lower() for name in vary.split(","))


def _seconds(value: str) -> float:
    """§1.2.2: delta-seconds, at most 2^31; what cannot be read counts as nothing, so as stale."""
    if not (value.isascii() and value.isdigit()):
        return 0.0
    digits = value.lstrip("0") or "0"
    return float(min(int(digits), 2**31)) if len(digits) < 11 else 2.0**31
