"""Two hundred wrong settings, in the environment and in `.env`: with none does anything start."""

from pathlib import Path

import pytest

from app.settings import ConfigError, Settings, load
from tests.wrong_settings import IN_JSON, NOT_YET, SECRET, UNKNOWN, WRONG


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        load()
    return str(caught.value)


def test_there_are_200_of_them() -> None:
    assert len(set(WRONG)) >= 200


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize(("name", "variable", "value"), WRONG)
def test_a_wrong_setting_stops_the_start_with_one_line_that_names_it(
    *,
    name: str,
    variable: str,
    value: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if place == "environment":
        monkeypatch.setenv(variable, value)
    else:
        file = tmp_path / ".env"
        escaped = value.replace("\\", "\\\\")
        file.write_text(f"# ours\nexport {variable}='{escaped}'\n")
        monkeypatch.setitem(Settings.model_config, "env_file", file)
    line = refusal()
    assert line.startswith(f"{name}: ")
    assert len(line.splitlines()) == 1
    assert SECRET not in line


@pytest.mark.parametrize(("name", "nearest"), UNKNOWN.items())
def test_the_nearest_setting_is_named(
    name: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert refusal() == f"{name}: is no setting; the nearest is {nearest}"


def test_the_nearest_setting_of_a_name_within_json_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(*IN_JSON["UPSTREAMS__USERS__TLL"])
    nearest = "UPSTREAMS__USERS__TTL"
    assert refusal() == f"UPSTREAMS__USERS__TLL: is no setting; the nearest is {nearest}"


@pytest.mark.parametrize("name", NOT_YET)
def test_a_setting_that_is_still_to_come_is_told_as_such(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    assert refusal() == f"{name}: this version does not have it yet"
    monkeypatch.setenv(name, "")
    load()


def test_tracing_settings_without_an_endpoint_are_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tributary")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    load()


def test_all_wrong_names_are_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "x")
    monkeypatch.setenv("UPSTREAMS__USER__TTL", "1")
    line = refusal()
    assert "API_KEYS: this version" in line
    assert "UPSTREAMS__USER__TTL: is no setting" in line
