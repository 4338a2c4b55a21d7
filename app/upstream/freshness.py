"""For how long an answer stays fresh: RFC 9111 §4.2."""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_DIRECTIVE = re.compile(r"([a-z-]+)(?:\s*=\s*(?:\"([^\"]*)\"|([^\s,]*)))?")


def fresh_for(headers: Mapping[str, str], ttl: float) -> float:
    """Seconds from now, by headers in lower case; `ttl` where the upstream says nothing of it."""
    control = headers.get("cache-control")
    expires = headers.get("expires")
    if control is None and expires is None:
        return ttl
    directives = {
        found[1]: found[2] or found[3] or ""
        for found in _DIRECTIVE.finditer((control or "").lower())
    }
    if "no-store" in directives or "no-cache" in directives:
        return 0.0
    # §5.2.2.10: s-maxage overrides max-age for a cache that many share, as we are one.
    if "s-maxage" in directives:
        lifetime = _seconds(directives["s-maxage"])
    elif "max-age" in directives:
        lifetime = _seconds(directives["max-age"])
    elif expires is not None:
        lifetime = _between(headers.get("date"), expires)
    else:
        return ttl
    return max(lifetime - _seconds(headers.get("age", "0")), 0.0)


def _seconds(value: str) -> float:
    """§1.2.2: delta-seconds; what cannot be read counts as nothing, so as stale."""
    return float(value) if value.isascii() and value.isdigit() and len(value) < 11 else 0.0


def _between(date: str | None, expires: str) -> float:
    try:
        left = parsedate_to_datetime(expires) - parsedate_to_datetime(date or "")
    except (TypeError, ValueError):  # §5.3: an invalid Expires is in the past
        return 0.0
    return left.total_seconds()
