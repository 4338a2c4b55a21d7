"""Where settings come from: the environment, and `.env`.

`.env` is read as python-dotenv does it: with quotes, `export`, comments, and `${X}`. But `${X}` in
single quotes is left as it is, as a shell does, and a line that cannot be read is an error: it may
have been a setting.
"""

import os
import re
from io import StringIO
from pathlib import Path

from dotenv.parser import parse_stream
from dotenv.variables import parse_variables
from pydantic_settings import DotEnvSettingsSource, EnvSettingsSource

_SINGLE_QUOTED = re.compile(r"[^=]*=\s*'")


class EnvFileError(Exception):
    """Says in which line, and nothing of what it has."""


# Sorted, so that `UPSTREAMS__USERS={…}` comes before `UPSTREAMS__USERS__TTL`, which adds to it:
# pydantic-settings would let the later one of them win, in an order that nobody has chosen.


class EnvironmentSource(EnvSettingsSource):
    def _load_env_vars(self) -> dict[str, str | None]:
        return dict(sorted(super()._load_env_vars().items()))


class EnvFileSource(DotEnvSettingsSource):
    def _read_env_file(self, file_path: Path) -> dict[str, str | None]:
        variables = read_env_file(file_path)
        return {name.lower(): text for name, text in sorted(variables.items()) if text}


def read_env_file(file: Path) -> dict[str, str]:
    """The variables that it sets. Raises `EnvFileError`."""
    try:
        content = file.read_text("utf-8")
    except UnicodeDecodeError:
        raise EnvFileError("is not UTF-8") from None
    values: dict[str, str] = {}
    for binding in parse_stream(StringIO(content)):
        if binding.error:
            raise EnvFileError(f"line {binding.original.line} cannot be read")
        if binding.key is None or binding.value is None:  # a comment, or a name alone
            continue
        text = binding.value
        if not _SINGLE_QUOTED.match(binding.original.string):
            scope = {**os.environ, **values}
            text = "".join(atom.resolve(scope) for atom in parse_variables(text))
        values[binding.key] = text
    return values
