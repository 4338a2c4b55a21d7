"""The settings: the only reader of the environment and of `.env`.

Every variable is optional; with none set, the service runs on its embedded demo upstream.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from app.setting_types import (
    AnyCase,
    BaseUrl,
    BaseUrls,
    Count,
    HeaderNames,
    Headers,
    Hedge,
    RootPath,
    Seconds,
    SecondsOrZero,
)
from app.tls_files import TlsFileError, TlsFiles


class UpstreamSettings(BaseModel):
    """One upstream: where it is, and how much it may cost us."""

    urls: BaseUrls = ()
    attempt_timeout: Seconds = 0.8
    concurrency: Count = 64
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_budget: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.2
    hedge: Hedge = "off"
    ttl: SecondsOrZero = 0.0
    stale_while_revalidate: SecondsOrZero = 0.0
    stale_if_error: SecondsOrZero = 0.0
    max_body: Annotated[int, Field(ge=1, le=2**30)] = 1_048_576
    headers: Headers = {}
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def tls_files(self) -> TlsFiles | None:
        """The TLS files of its own, if it has any."""
        files = TlsFiles(self.ca_file, self.cert_file, self.key_file)
        return files if files != TlsFiles(None, None, None) else None


_FIELDS = frozenset(UpstreamSettings.model_fields)


class Upstreams(BaseModel):
    users: UpstreamSettings = UpstreamSettings()
    posts: UpstreamSettings = UpstreamSettings()
    todos: UpstreamSettings = UpstreamSettings()

    def items(self) -> list[tuple[str, UpstreamSettings]]:
        return [(name, getattr(self, name)) for name in type(self).model_fields]


class Settings(BaseSettings):
    """The variables of docs/settings.md, typed. Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_nested_delimiter="__",
        # `docker run -e UPSTREAM_URL=` and a blank line of a compose file mean "not set".
        env_ignore_empty=True,
        extra="ignore",
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    log_level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = "info"
    log_format: Annotated[Literal["auto", "console", "json"], AnyCase] = "auto"
    upstream_url: BaseUrl | None = None
    upstreams: Upstreams = Upstreams()
    request_timeout: Seconds = 2.0
    request_timeout_max: Seconds = 10.0
    fan_out: Count = 10
    batch_max: Count = 100
    connections: Count = 1000
    answer_max: Annotated[int, Field(ge=1, le=2**40)] = 67_108_864
    drain_seconds: SecondsOrZero = 0.0
    root_path: RootPath = ""
    forward_headers: HeaderNames = ()
    explain: Annotated[Literal["auto", "on", "off"], AnyCase] = "auto"
    demo_latency: SecondsOrZero = 0.1

    @property
    def explain_allowed(self) -> bool:
        """Whether `?explain=true` is answered."""
        return self.explain == "on" or (self.explain == "auto" and self.demo)

    @property
    def demo(self) -> bool:
        """Whether the embedded demo answers in place of real upstreams."""
        return self.upstream_url is None and not any(u.urls for _, u in self.upstreams.items())

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.request_timeout > self.request_timeout_max:
            raise ValueError(
                "REQUEST_TIMEOUT: must not be above "
                f"REQUEST_TIMEOUT_MAX ({self.request_timeout_max:g})"
            )
        for name, upstream in self.upstreams.items():
            for header in upstream.headers:
                if header in self.forward_headers:  # which of the two values would be sent?
                    raise ValueError(
                        f"FORWARD_HEADERS: {header} is set by UPSTREAMS__{name.upper()}__HEADERS"
                    )
            try:
                if upstream.tls_files is not None:
                    upstream.tls_files.context()
            except TlsFileError as error:
                field = error.field.upper()
                raise ValueError(f"UPSTREAMS__{name.upper()}__{field}: {error}") from None
        # Demo data beside real data would mislead: either every upstream has a URL, or none has.
        without_url = [name.upper() for name, one in self.upstreams.items() if not one.urls]
        if without_url and not self.demo and self.upstream_url is None:
            raise ValueError(
                f"UPSTREAMS__{without_url[0]}__URLS: must be set, or UPSTREAM_URL, "
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
        raise ConfigError("; ".join(map(_describe, error.errors(include_input=False)))) from None
    except UnicodeDecodeError:
        raise ConfigError(".env: is not UTF-8") from None
    except SettingsError as error:
        named = re.search(r'field "(\w+)"', str(error))
        name = named[1].upper() if named else "settings"
        raise ConfigError(f"{name}: cannot be read") from None


def unknown_variables() -> list[str]:
    """Environment variables that begin as ours do but are no setting, so probably misspelt."""
    known = {f"{name}__{field}" for name in Upstreams.model_fields for field in _FIELDS}
    prefix = "upstreams__"
    return [
        variable
        for variable in os.environ
        if variable.lower().startswith(prefix)
        and variable.lower().removeprefix(prefix) not in known
    ]


def _describe(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    # Below the variable, the location goes on with the key of a dict ("[key]") or an index.
    path = [part for part in error["loc"] if isinstance(part, str) and part != "[key]"][:3]
    variable = "__".join(path).upper()
    return f"{variable}: {message}" if variable else message
