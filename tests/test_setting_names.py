"""Names that are like a setting's: the warning, and what gives none."""

from pathlib import Path

import pytest

from app.settings import Settings, load, unknown_variables

LIKE = {
    "REQEST_TIMEOUT": "REQUEST_TIMEOUT",
    "REQUEST_TIMEOUT_MS": "REQUEST_TIMEOUT_MAX",
    "UPSTREAM_URLS": "UPSTREAM_URL",
    "UPSTREAM__USERS__URLS": "UPSTREAMS__USERS__URLS",
    "UPSTREAMS_POSTS_TTL": "UPSTREAMS__POSTS__TTL",
    "LOGLEVEL": "LOG_LEVEL",
    "FORWARD_HEADER": "FORWARD_HEADERS",
    "FANOUT": "FAN_OUT",
    "HOTS": "HOST",
    "POTR": "PORT",
    "API_KEY": "API_KEYS",
    "demo_latancy": "DEMO_LATENCY",
}
ELSES = [
    *("PATH", "HOME", "HOSTNAME", "LANG", "SHELL", "USER", "TERM", "PWD", "SHLVL", "LOGNAME", "TZ"),
    *("PYTHONPATH", "PYTHON_VERSION", "GPG_KEY", "VIRTUAL_ENV", "HTTP_PROXY", "NO_PROXY", "EDITOR"),
    *("KUBERNETES_SERVICE_HOST", "KUBERNETES_PORT_443_TCP", "POD_NAME", "OTEL_SERVICE_NAME"),
]


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    return tmp_path / ".env"


@pytest.mark.parametrize(("name", "nearest"), LIKE.items())
def test_a_variable_that_is_like_a_setting_is_named_with_it(
    name: str, nearest: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name not in unknown_variables()
    env_file.write_text(f"{name}=1\n")
    assert unknown_variables()[name] == nearest
    env_file.unlink()
    monkeypatch.setenv(name, "1")
    assert unknown_variables()[name] == nearest
    load()


@pytest.mark.parametrize("name", [*ELSES, *map(str.upper, Settings.model_fields)])
def test_another_variable_gives_no_warning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert name not in unknown_variables()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UPSTREAMS__USERS", '{"ttl": 5, "urls": ["http://a.test"]}'),
        ("UPSTREAMS", '{"users": {"ttl": 5, "urls": "http://a.test"}}'),
        ("upstreams__users", '{"ttl": 5, "urls": "http://a.test,"}'),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_json_form_works_without_a_warning(
    variable: str, value: str, place: str, env_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSTREAM_URL", "http://b.test")
    monkeypatch.setenv("UPSTREAMS__USERS__RETRIES", "7")
    if place == "environment":
        monkeypatch.setenv(variable, value)
    else:
        env_file.write_text(f"{variable}={value}\n")
    users = load().upstreams.users
    assert (users.ttl, users.urls, users.retries) == (5.0, ("http://a.test",), 7)
    assert not {name for name in unknown_variables() if name.upper().startswith("UPSTREAM")}
