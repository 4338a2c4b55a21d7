"""The settings: the only reader of the environment and of `.env`.

Every variable is optional; with none set, the service runs on its embedded demo upstream.
"""

from __future__ import annotations

import json
import os
import re
from math import inf
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

# RFC 9110 §5.6.2 (a token) and §5.5 (a field value): what may stand in a header, and nothing more.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")

# RFC 1123 §2.1: labels of letters, digits and hyphens (and the underscore of container names).
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")

# What every attempt sets itself, or what belongs to one connection (RFC 9110 §7.6.1).
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
        "accept",
        "accept-encoding",
        "x-request-id",
        "x-request-timeout-ms",
        "traceparent",
        "tracestate",
    }
)


def _listed(value: object) -> object:
    if isinstance(value, str):
        return tuple(part for part in (piece.strip() for piece in value.split(",")) if part)
    return value


def _decoded(value: object) -> object:
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


def _header_value(value: SecretStr) -> SecretStr:
    if not _FIELD_VALUE.fullmatch(value.get_secret_value()):
        raise ValueError("has a header value that cannot be sent")
    return value


def _lowered(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _patience(value: object) -> object:
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
HeaderName = Annotated[str, AfterValidator(_header_name)]
HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SecondsOrNone = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class UpstreamSettings(BaseModel):
    """One upstream: where it is, and how much it may cost us."""

    urls: Annotated[tuple[BaseUrl, ...], NoDecode, BeforeValidator(_listed)] = ()
    attempt_timeout: Seconds = 0.8
    concurrency: Count = 64
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_budget: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    hedge: Annotated[Literal["off", "auto"] | float, BeforeValidator(_patience)] = "off"
    ttl: SecondsOrNone = 0.0
    stale_while_revalidate: SecondsOrNone = 0.0
    stale_if_error: SecondsOrNone = 0.0
    max_body: Annotated[int, Field(ge=1, le=2**30)] = 1_048_576
    headers: Annotated[dict[HeaderName, HeaderValue], NoDecode, BeforeValidator(_decoded)] = {}


_FIELDS = frozenset(UpstreamSettings.model_fields)


class Upstreams(BaseModel):
    users: UpstreamSettings = UpstreamSettings()
    posts: UpstreamSettings = UpstreamSettings()
    todos: UpstreamSettings = UpstreamSettings()

    def items(self) -> list[tuple[str, UpstreamSettings]]:
        return [(name, getattr(self, name)) for name in type(self).model_fields]


class Settings(BaseSettings):
    """The table of the README, typed. Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_nested_delimiter="__",
        # `docker run -e UPSTREAM_URL=` and a blank line of a compose file mean "not set".
        env_ignore_empty=True,
        extra="ignore",
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(_lowered)
    ] = "info"
    log_format: Annotated[Literal["auto", "console", "json"], BeforeValidator(_lowered)] = "auto"
    upstream_url: BaseUrl | None = None
    upstreams: Upstreams = Upstreams()
    request_timeout: Seconds = 2.0
    request_timeout_max: Seconds = 10.0
    fan_out: Count = 10
    batch_max: Count = 100
    forward_headers: Annotated[tuple[HeaderName, ...], NoDecode, BeforeValidator(_listed)] = ()
    explain: Annotated[Literal["auto", "on", "off"], BeforeValidator(_lowered)] = "auto"
    demo_latency: SecondsOrNone = 0.1

    @property
    def explains(self) -> bool:
        """Whether a client may see what was done for its answer."""
        return self.explain == "on" or (self.explain == "auto" and self.demo)

    @property
    def demo(self) -> bool:
        """Whether the embedded demo answers in place of real upstreams."""
        return self.upstream_url is None and not any(u.urls for _, u in self.upstreams.items())

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.request_timeout > self.request_timeout_max:
            raise ValueError(
                "REQUEST_TIMEOUT: must not be above "
                f"REQUEST_TIMEOUT_MAX ({self.request_timeout_max:g})"
            )
        for name, upstream in self.upstreams.items():
            for header in upstream.headers:
                if header in self.forward_headers:  # whose credential would it be?
                    raise ValueError(
                        f"FORWARD_HEADERS: {header} is set by UPSTREAMS__{name.upper()}__HEADERS"
                    )
        # Demo data beside real data would be a lie: all of one kind, or a clear word.
        lacking = [name.upper() for name, upstream in self.upstreams.items() if not upstream.urls]
        if lacking and not self.demo and self.upstream_url is None:
            raise ValueError(
                f"UPSTREAMS__{lacking[0]}__URLS: must be set, or UPSTREAM_URL, "
                "as soon as one upstream has a URL"
            )
        return self


class ConfigError(Exception):
    """One line that names the variable; never its value, which may be a secret."""


def load() -> Settings:
    """Read the settings, or say in one line which variable is wrong and why."""
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError("; ".join(map(_line, error.errors(include_input=False)))) from None
    except UnicodeDecodeError:
        raise ConfigError(".env: is not UTF-8") from None
    except SettingsError as error:
        named = re.search(r'field "(\w+)"', str(error))
        name = named[1].upper() if named else "settings"
        raise ConfigError(f"{name}: cannot be read") from None


def unknown() -> list[str]:
    """Variables that look like ours and are not: a misspelt one would be ignored without a word."""
    known = {f"{name}__{field}" for name in Upstreams.model_fields for field in _FIELDS}
    prefix = "upstreams__"
    return [
        variable
        for variable in os.environ
        if variable.lower().startswith(prefix)
        and variable.lower().removeprefix(prefix) not in known
    ]


def _line(error: object) -> str:
    assert isinstance(error, dict)
    message = error["msg"].removeprefix("Value error, ")
    # A dict key's own error ends in "[key]", an item's in its index: the variable is before both.
    path = [part for part in error["loc"] if isinstance(part, str) and part != "[key]"][:3]
    variable = "__".join(path).upper()
    return f"{variable}: {message}" if variable else message
