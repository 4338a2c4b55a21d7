"""What a request says: its parameters, and the headers that we read."""

import re
from collections.abc import Collection, Iterable
from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field

from app.call import Header as RawHeader
from app.views.overview import overview


def _digits(value: object) -> object:
    # Pydantic would also read 1.0, 1_0, +1 and 007: each number has one spelling here.
    if isinstance(value, str) and not re.fullmatch(r"0|[1-9][0-9]*", value):
        raise ValueError("must be a whole number, in digits")
    return value


PlainDigits = BeforeValidator(_digits)

_identifier: Any = overview.identifier_type
Identifier = Annotated[_identifier, PlainDigits]

UserId = Annotated[Identifier, Path(description="Whose overview")]


def _split(value: object) -> object:
    """`include=posts,todos` and `include=posts&include=todos` are the same."""
    if isinstance(value, list):
        return [part for text in value for part in str(text).split(",")]
    return value


UserIds = Annotated[
    list[Identifier],
    BeforeValidator(_split),
    Query(
        description="Whose overviews, repeated or comma separated; at most `BATCH_MAX` different"
    ),
]

_Milliseconds = Annotated[int, Field(ge=1), PlainDigits] | None
_WAIT = "How long the client will wait, in milliseconds; clamped to what the service allows"

TimeoutMs = Annotated[
    _Milliseconds,
    Query(description=f"{_WAIT}. For clients that cannot send headers", examples=[800]),
]
TimeoutMsHeader = Annotated[
    _Milliseconds,
    Header(alias="X-Request-Timeout-Ms", description=_WAIT, examples=[800]),
]


def either_timeout(parameter: int | None, header: int | None) -> int | None:
    """The timeout of the client, wherever it says it; not in both places."""
    if parameter is not None and header is not None:
        message = "X-Request-Timeout-Ms is there too, and only one of them may be"
        raise RequestValidationError([{"loc": ("query", "timeout_ms"), "msg": message}])
    return header if parameter is None else parameter


Explain = Annotated[
    Literal["true", "false"],
    Query(description="Add a `timeline` of what was done, where the service allows it"),
]


_SectionName: Any = Literal[tuple(overview.sections)]
_Names = Annotated[list[_SectionName], BeforeValidator(_split), Field(min_length=1)] | None

Include = Annotated[
    _Names, Query(description="The sections wanted, repeated or comma separated; default: all")
]
Require = Annotated[
    _Names,
    Query(description="Sections without which the answer is useless to the client; default: none"),
]


def parse_sections(
    include: list[str] | None, require: list[str] | None
) -> tuple[Collection[str], Collection[str]]:
    """The sections that are included, and those that are required: a part of the former."""
    included: Collection[str] = include or overview.sections
    for name in require or ():
        if name not in included:
            raise RequestValidationError(
                [{"loc": ("query", "require"), "msg": f"{name} is required but not included"}]
            )
    return included, require or ()


_JSON = "application/json"


def prefers(request: Request, media_type: str) -> bool:
    """Whether `media_type` is accepted by name, and preferred to JSON (RFC 9110 §12.5.1)."""
    if request.scope.get("http_version") == "1.0":
        return False  # it knows no chunked coding, and streams need that
    headers = request.scope["headers"]
    lines = [value.decode("latin-1").lower() for name, value in headers if name == b"accept"]
    if not any(media_type in line for line in lines):
        return False  # most requests end here
    weights = dict(_weight(item) for line in lines for item in line.split(","))
    wanted = weights.get(media_type, 0.0)
    if _JSON in weights:
        return wanted > weights[_JSON]
    return wanted > 0 and wanted >= weights.get("application/*", weights.get("*/*", 0.0))


def _weight(item: str) -> tuple[str, float]:
    """A media range and its weight, which is 0 if it cannot be read."""
    media_range, *parameters = (part.strip() for part in item.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return media_range, float(value)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0


def read_cache_control(headers: Iterable[RawHeader]) -> tuple[bool, bool]:
    """Whether the client wants nothing that is stored, and whether the answer may not be stored.

    RFC 9111 §5.2.1: `no-cache` and `max-age=0` are a reload, and so is `Pragma: no-cache` where
    there is no `Cache-Control` (§5.4); `no-store` is a reload of which nothing is kept.
    """
    lines = {name: value for name, value in headers if name in (b"cache-control", b"pragma")}
    if not lines:
        return False, False
    text = b",".join(value for name, value in headers if name == b"cache-control")
    directives = {directive.strip().lower() for directive in text.split(b",")}
    no_store = b"no-store" in directives
    if b"cache-control" not in lines:
        return b"no-cache" in lines[b"pragma"].lower(), False
    return no_store or not directives.isdisjoint((b"no-cache", b"max-age=0")), no_store


_TRACEPARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,64})?"
)
_TRACESTATE_MEMBER = re.compile(
    rb"([a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    rb"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
_MAX_TRACESTATE = 512
"""Bytes. A service has to pass on so much, and need not pass on more (§3.3.1.5)."""
_MAX_TRACESTATE_MEMBERS = 32


def extract_trace_headers(headers: Iterable[RawHeader]) -> tuple[RawHeader, ...]:
    """W3C trace context among `headers`, names in lower case; nothing if it is not valid.

    They are forwarded unchanged, as the specification asks of a service that records no spans
    (Trace Context, "Forwarding"). Without a valid `traceparent`, `tracestate` is dropped too. They
    go out with an attempt that others may share, so a `tracestate` that breaks a rule or a bound
    is dropped: an upstream could refuse the attempt for it.
    """
    context = [one for one in headers if one[0] in (b"traceparent", b"tracestate")]
    if not context:
        return ()
    parents = [value for name, value in context if name == b"traceparent"]
    if len(parents) != 1 or not _TRACEPARENT.fullmatch(parents[0]):
        return ()
    states = [value for name, value in context if name == b"tracestate"]
    if not _is_tracestate(b",".join(states)):
        context = [(b"traceparent", parents[0])]
    return tuple(context)


def _is_tracestate(value: bytes) -> bool:
    if len(value) > _MAX_TRACESTATE:
        return False
    members = [member for part in value.split(b",") if (member := part.strip(b" \t"))]
    keys = {member.partition(b"=")[0] for member in members}
    return len(keys) == len(members) <= _MAX_TRACESTATE_MEMBERS and all(
        _TRACESTATE_MEMBER.fullmatch(member) for member in members
    )
