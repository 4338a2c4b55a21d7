"""Names of variables: which there are, which are to come, and what a misspelt one may mean."""

import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase

from pydantic import BaseModel
from pydantic_core import ErrorDetails

NOT_YET = (
    "ADMIN_PORT",
    "ALLOWED_HOSTS",
    "API_KEYS",
    "API_KEYS_FILE",
    "CORS_ORIGINS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",  # without one, traces are off, whatever else is set
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "RATE_LIMIT",
    "REDIS_URL",
    "TRUSTED_PROXIES",
    "UPSTREAMS__*__FORWARD",
    "VIEWS",
    "WORKERS",
)
"""Settings to come. To start without one would be to serve without what it promises."""

_UPSTREAMS = "UPSTREAMS__"
_ALIKE = 0.75
"""Of `HOST`, three letters of four in their order, so that `HOTS` is like it, and `HOME` is not."""


def setting_names(model: type[BaseModel], prefix: str = "") -> frozenset[str]:
    """All variables that are settings: those of a model within another have a JSON form too."""
    names: set[str] = set()
    for field, info in model.model_fields.items():
        name = f"{prefix}{field}".upper()
        names.add(name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            names |= setting_names(info.annotation, f"{name}__")
    return frozenset(names)


def refusal(variable: str, known: Collection[str]) -> str | None:
    """Why the service must not start with this variable, if so; `known` are all settings."""
    name = variable.upper()
    if any(fnmatchcase(name, pattern) for pattern in NOT_YET):
        return "this version does not have it yet"
    if name.startswith(_UPSTREAMS) and name not in known:
        return f"is no setting; the nearest is {_nearest(name, known, 0.0)}"
    return None


def misspelt(variables: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Those of the variables that are no setting but are like one, with the name of that one."""
    names = {*known, *NOT_YET}
    nearest = {
        variable: _nearest(variable.upper(), names, _ALIKE)
        for variable in variables
        if variable.upper() not in known
    }
    return {variable: name for variable, name in nearest.items() if name is not None}


def _nearest(name: str, names: Collection[str], least: float) -> str | None:
    return next(iter(get_close_matches(name, sorted(names), 1, least)), None)


def describe(error: ErrorDetails, known: Collection[str]) -> str:
    """One line: the variable, and what is wrong with it. Its value may be a secret."""
    # Below the variable, the location goes on with the key of a dict ("[key]") or an index.
    path = [part for part in error["loc"] if isinstance(part, str) and part != "[key]"][:3]
    variable = "__".join(path).upper()
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":  # within the JSON of a variable
        message = refusal(variable, known) or "must be in lower case within JSON"
    return f"{variable}: {message}" if variable else message


def name_of_invalid_json(variables: Mapping[str, str]) -> str:
    """The first one that should be JSON and is not: pydantic-settings names but a part of it."""
    for name, text in variables.items():
        is_group = name.upper() == "UPSTREAMS" or name.upper().startswith(_UPSTREAMS)
        if is_group and name.count("__") < 2:
            try:
                json.loads(text)
            except ValueError:
                return name.upper()
    return "UPSTREAMS"
