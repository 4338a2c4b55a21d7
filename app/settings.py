"""The settings: the only reader of the environment and of `.env`.

Every variable is optional; with none set, the service runs on its embedded demo upstream.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from app.setting_names import (
    describe,
    misspelt,
    name_of_invalid_json,
    refusal,
    setting_names,
)
from app.setting_sources import (
    EnvFileError,
    EnvFileSource,
    EnvironmentSource,
    read_env_file,
)
from app.setting_types import (
    AnyCase,
    BaseUrl,
    BaseUrls,
    Count,
    ForwardedNames,
    Headers,
    Hedge,
    RootPath,
    Seconds,
    SecondsOrZero,
)
from app.tls_files import TlsFileError, TlsFiles


class UpstreamSettings(BaseModel):
    """One upstream: where it is, and how much it may cost us."""

    model_config = ConfigDict(extra="forbid")  # in the JSON of a variable

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


class Upstreams(BaseModel):
    model_config = ConfigDict(extra="forbid")

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
    forward_headers: ForwardedNames = ()
    explain: Annotated[Literal["auto", "on", "off"], AnyCase] = "auto"
    demo_latency: SecondsOrZero = 0.1

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        env_file = EnvFileSource(cls, dotenv_settings.env_file)
        return init_settings, EnvironmentSource(cls), env_file

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


_KNOWN = setting_names(Settings)


def load() -> Settings:
    """Read the settings, or say in one line which variable is wrong and why."""
    try:
        refused = [(name, refusal(name, _KNOWN)) for name in _variables()]
        if lines := [f"{name}: {why}" for name, why in refused if why]:
            raise ConfigError("; ".join(lines))
        return Settings()
    except ValidationError as error:
        lines = [describe(one, _KNOWN) for one in error.errors(include_input=False)]
        raise ConfigError("; ".join(lines)) from None
    except EnvFileError as error:
        raise ConfigError(f".env: {error}") from None
    except SettingsError:
        raise ConfigError(f"{name_of_invalid_json(_variables())}: is not JSON") from None


def unknown_variables() -> dict[str, str]:
    """Variables that are no setting but are like one, each with its name: probably misspelt."""
    return misspelt(_variables(), _KNOWN)


def _variables() -> dict[str, str]:
    """All that are set, in the environment or in `.env`, ours or not."""
    file = Settings.model_config.get("env_file")
    in_file = read_env_file(Path(str(file))) if file and Path(str(file)).is_file() else {}
    return {name: text for name, text in (in_file | dict(os.environ)).items() if text}
