"""The settings as they are documented: in `.env.example`, in `docs/settings.md`, in the README."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app.settings import Settings, load

ROOT = Path(__file__).parents[1]
UPSTREAM = re.compile(r"^UPSTREAMS__[A-Z]+__")


def defaults(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every variable there is, with the value it has when it is not set."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from defaults(value, f"{prefix}{name}__".upper())
        else:
            yield f"{prefix}{name}".upper(), value


def same(text: str, value: Any) -> bool:
    """Whether the documented `text` means `value`."""
    if value is None or value == ():
        return text == ""
    if isinstance(value, str):
        return text == value
    return bool(json.loads(text) == value)


@pytest.fixture
def variables() -> dict[str, Any]:
    return dict(defaults(Settings()))


@pytest.fixture
def example() -> list[str]:
    return (ROOT / ".env.example").read_text().splitlines()


def assignments(lines: list[str]) -> dict[str, str]:
    found = [re.fullmatch(r"# ([A-Z][A-Z0-9_]*)=(.*)", line) for line in lines]
    return {one[1]: one[2] for one in found if one}


def test_settings_have_nested_variables(variables: dict[str, Any]) -> None:
    assert variables["UPSTREAMS__TODOS__ATTEMPT_TIMEOUT"] == 0.8
    assert variables["REQUEST_TIMEOUT"] == 2.0


def test_the_env_example_has_every_variable_and_no_other(
    example: list[str], variables: dict[str, Any]
) -> None:
    assert sorted(assignments(example)) == sorted(variables)


def test_the_env_example_has_every_default(example: list[str], variables: dict[str, Any]) -> None:
    for name, text in assignments(example).items():
        assert same(text, variables[name]), name


def test_the_env_example_sets_nothing_and_explains_everything(example: list[str]) -> None:
    explained = False
    for line in example:
        assert line == "" or line.startswith("# ")
        if assignments([line]):
            assert explained, line
        elif line:
            explained = True
        else:
            explained = False


def test_the_env_example_uncommented_changes_nothing(
    example: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={text}\n" for name, text in assignments(example).items()))
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    assert load() == Settings(_env_file=None)


@pytest.fixture
def table() -> dict[str, list[str]]:
    """The variables of the table, with all that stands as code in the second cell of their row."""
    rows: dict[str, list[str]] = {}
    inside = False
    for line in (ROOT / "docs/settings.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0].lower() == "variable":
            inside = True
        elif inside:
            for name in re.findall(r"`([A-Z][A-Z0-9_*]*)`", cells[0]):
                rows[name] = re.findall(r"`([^`]*)`", cells[1])
    return rows


def test_the_table_of_settings_has_every_variable_and_no_other(
    table: dict[str, list[str]], variables: dict[str, Any]
) -> None:
    assert sorted(table) == sorted(generic(variables))


def test_the_table_of_settings_has_every_default(
    table: dict[str, list[str]], variables: dict[str, Any]
) -> None:
    for name, value in variables.items():
        documented = table[UPSTREAM.sub("UPSTREAMS__*__", name)]
        if value in (None, (), ""):
            assert documented == [], name
        else:
            assert any(means(text, value) for text in documented), name


def test_the_readme_names_every_setting_and_no_other(variables: dict[str, Any]) -> None:
    _, _, section = (ROOT / "README.md").read_text().partition("\n## Settings\n")
    listed = re.findall(r"^[- ] .*$", section.partition("\n## ")[0], re.MULTILINE)
    names = re.findall(r"`([A-Z][A-Z0-9_*]*)`", "\n".join(listed))
    assert sorted(names) == sorted(generic(variables))


def generic(variables: dict[str, Any]) -> set[str]:
    """Their names, with `*` for the name of an upstream."""
    return {UPSTREAM.sub("UPSTREAMS__*__", name) for name in variables}


def means(text: str, value: Any) -> bool:
    try:
        return same(text, value)
    except ValueError:
        return False
