"""The types of settings: which values a variable may have, and the message for any other."""

import json
import re
from math import inf
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

# RFC 9110 §5.6.2 (a token) and §5.5 (a field value; ASCII only).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")

# RFC 1123 §2.1: labels of letters, digits and hyphens (and the underscore of container names).
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")

# Headers that every attempt sets itself, those of one connection (RFC 9110 §7.6.1), and those that
# ask for another answer than the whole one (§13.1, §14.2).
_RESERVED = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "expect",
        "proxy-connection",
        "proxy-authorization",
        "if-match",
        "if-none-match",
        "if-modified-since",
        "if-unmodified-since",
        "if-range",
        "range",
        "accept",
        "accept-encoding",
        "x-request-id",
        "x-request-timeout-ms",
        "traceparent",
        "tracestate",
    }
)
# A client's, which are for us: a reload is made of them, and they would split our cache. And what
# describes a body, which is not passed on.
_FOR_US = frozenset(
    {"cache-control", "pragma", "content-type", "content-encoding", "content-language"}
)


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _json_object(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON object of header names and values") from None
    return value


def _base_url(value: str) -> str:
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and url.port != 0
        usable = usable and _HOST.fullmatch(url.hostname or "") is not None
    except ValueError:
        usable = False
    if not usable or not value.isascii() or re.search(r"[\s\x00-\x1f\\]", value):
        raise ValueError("must be an http:// or https:// URL")
    if "@" in url.netloc:
        raise ValueError("must not carry credentials; UPSTREAMS__*__HEADERS is the place for them")
    if "?" in value or "#" in value:
        raise ValueError("must not have a query or a fragment")
    return value.rstrip("/")


def _header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value) or value.lower() in _RESERVED:
        raise ValueError("names a header that the service sets itself, or that cannot be sent")
    return value.lower()


def _forwarded_name(value: str) -> str:
    if value in _FOR_US:
        raise ValueError("names a header that is for this service")
    return value


def _header_value(value: SecretStr) -> SecretStr:
    if not _FIELD_VALUE.fullmatch(value.get_secret_value()):
        raise ValueError("has a header value that cannot be sent")
    return value


def _lower_case(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _hedge(value: object) -> object:
    word = str(value).lower()
    if word in ("off", "auto"):
        return word
    try:
        seconds = float(word)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < inf:
        raise ValueError("must be off, auto, or a number of seconds from 0")
    return seconds


BaseUrl = Annotated[str, AfterValidator(_base_url)]
BaseUrls = Annotated[tuple[BaseUrl, ...], NoDecode, BeforeValidator(_comma_separated)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
ForwardedName = Annotated[HeaderName, AfterValidator(_forwarded_name)]
ForwardedNames = Annotated[tuple[ForwardedName, ...], NoDecode, BeforeValidator(_comma_separated)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
Headers = Annotated[dict[HeaderName, HeaderValue], NoDecode, BeforeValidator(_json_object)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Hedge = Annotated[Literal["off", "auto"] | float, BeforeValidator(_hedge)]
Count = Annotated[int, Field(ge=1)]
AnyCase = BeforeValidator(_lower_case)


def _root_path(value: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", value):
        raise ValueError("must be a path such as /api, without a slash at its end")
    return value


RootPath = Annotated[str, AfterValidator(_root_path)]
