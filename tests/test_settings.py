"""The settings: what is read, from where, and the error for what is invalid."""

import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.settings import ConfigError, Settings, UpstreamSettings, load
from app.tls_files import TlsFiles
from tests.upstream.http1.sockets import PEM
from tests.wrong_settings import INVALID, SECRET

LOCKED = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgfjSMo/Y1b0AICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPDICWFKtNGKxrcofS4atOIEgZAO
tYnc6GggJi2lUBUThIMU53Bz/mEdx3PTm0+eJajRvRFcrw9/cL94x/ZjP/Vz5WFa
NxEGWTf0x65mVHfI34wu5ZAil91bz0tKhUNi4R4WWDyaZGp13pryo+nCra2mU4t5
z4QqNtUS8aoKxDYSbTwW/LJjMPaE8ac1bcr6mrqVMvXAItNpc/kMXgtDUiP1MXI=
-----END ENCRYPTED PRIVATE KEY-----
"""
"""A key under a password."""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def test_without_settings_the_demo_is_the_upstream() -> None:
    settings = load()
    assert settings.demo
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_every_type_of_setting_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LOG_LEVEL", "WARNING")
    environment.setenv("UPSTREAM_URL", "https://fallback.test:8443/base/")
    environment.setenv("UPSTREAMS__USERS__URLS", " http://a.test , http://[::1]:81/x/,")
    environment.setenv("UPSTREAMS__USERS__ATTEMPT_TIMEOUT", "0.25")
    environment.setenv("UPSTREAMS__USERS__HEDGE", "AUTO")
    environment.setenv("UPSTREAMS__POSTS__HEADERS", f'{{"X-Api-Key": "{SECRET}"}}')
    environment.setenv("FORWARD_HEADERS", "Authorization, accept-language")
    settings = load()
    assert not settings.demo
    assert settings.log_level == "warning"
    assert settings.upstream_url == "https://fallback.test:8443/base"
    assert settings.forward_headers == ("authorization", "accept-language")
    assert settings.upstreams.users == UpstreamSettings(
        urls=("http://a.test", "http://[::1]:81/x"), attempt_timeout=0.25, hedge="auto"
    )
    assert settings.upstreams.posts.headers == {"x-api-key": SecretStr(SECRET)}
    assert settings.upstreams.todos == UpstreamSettings()
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        *(("RETRIES", str(number), number) for number in (0, 1, 10)),
        *(("RETRY_BUDGET", text, float(text)) for text in ("0", "0.05", "1")),
        *(("HEDGE", word, word.lower()) for word in ("off", "OFF", "auto", "Auto")),
        *(("HEDGE", text, float(text)) for text in ("0", "0.05", "3")),
        ("STALE_WHILE_REVALIDATE", "30", 30.0),
        ("STALE_IF_ERROR", "86400", 86400.0),
    ],
)
def test_retry_hedge_and_stale_settings_are_those_of_one_upstream(
    environment: pytest.MonkeyPatch, name: str, value: str, parsed: object
) -> None:
    environment.setenv(f"UPSTREAMS__POSTS__{name}", value)
    upstreams = load().upstreams
    assert upstreams.posts == UpstreamSettings.model_validate({name.lower(): parsed})
    assert upstreams.users == UpstreamSettings()


def test_by_default_there_are_two_retries_no_hedge_and_no_cache() -> None:
    default = UpstreamSettings()
    assert (default.retries, default.retry_budget, default.hedge) == (2, 0.2, "off")
    assert (default.ttl, default.stale_while_revalidate, default.stale_if_error) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in INVALID.items() for value in values]
)
def test_an_invalid_setting_is_one_line_that_names_it(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load()
    line = str(caught.value)
    assert line.startswith(f"{name}: ")
    assert len(line.splitlines()) == 1
    assert SECRET not in line


@pytest.mark.parametrize("name", INVALID)
@pytest.mark.parametrize("value", [SECRET, f"http://me:{SECRET}@a.test", f'["{SECRET}"]'])
def test_an_invalid_value_is_not_in_the_error(
    environment: pytest.MonkeyPatch, name: str, value: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(ConfigError, match=f"^{name}: ") as caught:
        load()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", INVALID["UPSTREAMS__TODOS__HEDGE"])
def test_an_invalid_hedge_is_one_error_with_all_choices(
    environment: pytest.MonkeyPatch, value: str
) -> None:
    environment.setenv("UPSTREAMS__TODOS__HEDGE", value)
    with pytest.raises(ConfigError) as caught:
        load()
    line = str(caught.value)
    assert line.count("HEDGE") == 1
    assert ";" not in line
    assert {"off", "auto", "seconds"} <= set(line.replace(",", "").split())


def test_two_invalid_settings_are_in_one_error(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PORT", "many")
    environment.setenv("UPSTREAMS__POSTS__TTL", "long")
    with pytest.raises(ConfigError, match=r"PORT: .*; UPSTREAMS__POSTS__TTL: "):
        load()


@pytest.mark.parametrize(
    ("configured", "missing"),
    [
        (["USERS"], "UPSTREAMS__POSTS__URLS"),
        (["POSTS", "TODOS"], "UPSTREAMS__USERS__URLS"),
        (["USERS", "POSTS"], "UPSTREAMS__TODOS__URLS"),
    ],
)
def test_demo_data_is_never_mixed_with_real_data(
    environment: pytest.MonkeyPatch, configured: list[str], missing: str
) -> None:
    for name in configured:
        environment.setenv(f"UPSTREAMS__{name}__URLS", "http://a.test")
    with pytest.raises(ConfigError, match=f"^{missing}: must be set, or UPSTREAM_URL"):
        load()
    environment.setenv("UPSTREAM_URL", "http://fallback.test")
    assert not load().demo


def test_a_forward_header_that_an_upstream_sets_itself_is_invalid(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("FORWARD_HEADERS", "Authorization, X-Api-Key")
    environment.setenv("UPSTREAMS__POSTS__HEADERS", '{"x-api-key": "secret"}')
    with pytest.raises(ConfigError, match=r"^FORWARD_HEADERS: x-api-key is set by") as caught:
        load()
    assert "secret" not in str(caught.value)


TLS_FILES = {
    "CA_FILE": [
        ({"CA_FILE": "missing.pem"}, "cannot be read: No such file or directory"),
        ({"CA_FILE": "."}, "cannot be read: Is a directory"),
        ({"CA_FILE": "broken.pem"}, "has no certificates in PEM"),
        ({"CA_FILE": "empty.pem"}, "has no certificates in PEM"),
    ],
    "CERT_FILE": [
        ({"CERT_FILE": "missing.pem"}, "cannot be read: No such file or directory"),
        ({"CERT_FILE": "broken.pem"}, "has no certificate in PEM"),
        ({"CERT_FILE": "ca.pem"}, "has no key in PEM, without a password"),
        ({"CERT_FILE": "broken.pem", "KEY_FILE": "ada.pem"}, "has no certificate in PEM"),
    ],
    "KEY_FILE": [
        ({"KEY_FILE": "ada.pem"}, "is of no use without CERT_FILE"),
        ({"CERT_FILE": "ada.pem", "KEY_FILE": "missing.pem"}, "cannot be read: No such file"),
        ({"CERT_FILE": "ada.pem", "KEY_FILE": "ca.pem"}, "has no key in PEM, without a password"),
        ({"CERT_FILE": "ada.pem", "KEY_FILE": "bob.pem"}, "is not the key of the certificate"),
        ({"CERT_FILE": "ada.pem", "KEY_FILE": "locked.pem"}, "has no key in PEM, without a"),
    ],
}


@pytest.mark.parametrize("field", TLS_FILES)
def test_a_tls_file_that_cannot_be_used_stops_the_start_and_is_named(
    field: str, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ca.pem", "ada.pem", "bob.pem"):
        shutil.copy(PEM / name, tmp_path)
    (tmp_path / "broken.pem").write_text((PEM / "ca.pem").read_text()[:200])
    (tmp_path / "empty.pem").touch()
    (tmp_path / "locked.pem").write_text(LOCKED)
    for files, reason in TLS_FILES[field]:
        with environment.context() as changed:
            for name, file in files.items():
                changed.setenv(f"UPSTREAMS__POSTS__{name}", str(tmp_path / file))
            with pytest.raises(ConfigError) as caught:
                load()
            assert str(caught.value).startswith(f"UPSTREAMS__POSTS__{field}: {reason}")
            assert str(tmp_path) not in str(caught.value)


def test_tls_files_that_can_be_used_are_accepted(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("UPSTREAMS__POSTS__CA_FILE", str(PEM / "ca.pem"))
    environment.setenv("UPSTREAMS__USERS__CERT_FILE", str(PEM / "ada.pem"))
    environment.setenv("UPSTREAMS__USERS__KEY_FILE", str(PEM / "ada.pem"))
    upstreams = load().upstreams
    assert upstreams.posts.tls_files == TlsFiles(PEM / "ca.pem", None, None)
    assert upstreams.users.tls_files == TlsFiles(None, PEM / "ada.pem", PEM / "ada.pem")
    assert upstreams.todos.tls_files is None


def test_request_timeout_max_below_request_timeout_is_invalid(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("REQUEST_TIMEOUT_MAX", "1")
    with pytest.raises(ConfigError, match="REQUEST_TIMEOUT: must not be above"):
        load()


def test_an_empty_value_counts_as_unset(environment: pytest.MonkeyPatch) -> None:
    for name in INVALID:
        environment.setenv(name, "")
    assert load() == Settings()


def test_the_environment_overrides_the_env_file(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=1\nFAN_OUT=3\nUPSTREAMS__USERS__TTL=5\nSOMETHING_ELSE=x\n")
    environment.setitem(Settings.model_config, "env_file", file)
    environment.setenv("PORT", "2")
    settings = load()
    assert (settings.port, settings.fan_out, settings.upstreams.users.ttl) == (2, 3, 5.0)


def test_an_unreadable_env_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xff\xfe PORT=1")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    with pytest.raises(ConfigError, match=r"^\.env: is not UTF-8$"):
        load()


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "[::1]", "a-b.c_d.test.", "A1"])
def test_every_form_of_host_is_valid(host: str) -> None:
    assert Settings(upstream_url=f"http://{host}:81/x").upstream_url == f"http://{host}:81/x"
