"""How `python -m app` starts, refuses to start, and ends; `test_drain.py` has more on the end."""

import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from tests.service.process import log_event, service_process

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
async def test_without_settings_it_serves_the_demo_and_a_stop_signal_ends_it_with_exit_code_0(
    tmp_path: Path, stop: signal.Signals
) -> None:
    async with service_process(tmp_path) as process, aiohttp.ClientSession() as client:
        listening = await log_event(process, "listening")
        assert listening["upstreams"] == "demo"
        async with client.get(listening["overview"]) as response:
            assert (response.status, (await response.json())["complete"]) == (200, True)
        process.send_signal(stop)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REQUEST_TIMEOUT", "hunter2"),
        ("UPSTREAMS__POSTS__HEADERS", '{"Authorization": "hunter2\\n"}'),
    ],
)
async def test_an_invalid_setting_stops_the_start_with_one_line_that_does_not_repeat_it(
    tmp_path: Path, variable: str, value: str
) -> None:
    async with service_process(tmp_path, **{variable: value}) as process:
        out, error = await process.communicate()
        assert process.returncode not in (0, None)
        assert error.decode().count("\n") == 1
        assert error.decode().startswith(variable)
        assert b"hunter2" not in out + error


WRONG = [
    ("REQUEST_TIMEOUT", "0", "REQUEST_TIMEOUT: "),
    ("PORT", "http", "PORT: "),
    ("API_KEYS", "ada:hunter2", "API_KEYS: this version does not have it yet\n"),
    ("RATE_LIMIT", "1/minute", "RATE_LIMIT: this version does not have it yet\n"),
    (
        *("UPSTREAMS__USER__URLS", "http://hunter2.test"),
        "UPSTREAMS__USER__URLS: is no setting; the nearest is UPSTREAMS__USERS__URLS\n",
    ),
    (
        *("UPSTREAMS__USERS__CA_FILE", "/hunter2.pem"),
        "UPSTREAMS__USERS__CA_FILE: cannot be read: No such file or directory\n",
    ),
    ("FORWARD_HEADERS", "range", "FORWARD_HEADERS: "),
]


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize(("variable", "value", "line"), WRONG)
async def test_a_wrong_setting_stops_the_process_from_the_environment_and_from_the_env_file(
    tmp_path: Path, variable: str, value: str, line: str, place: str
) -> None:
    if place == ".env":
        (tmp_path / ".env").write_text(f"{variable}={value}\n")
    settings = {variable: value} if place == "environment" else {}
    if variable == "PORT":
        settings["PORT"] = value if place == "environment" else ""  # not that of the tests
    async with service_process(tmp_path, **settings) as process:
        out, error = await process.communicate()
    assert process.returncode == 1
    assert error.decode().startswith(line)
    assert error.decode().count("\n") == 1
    assert (out, b"hunter2" in error) == (b"", False)


async def test_names_that_are_like_a_setting_are_logged_without_their_values(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text("FANOUT=hunter2\nSOMETHING_ELSE=1\n")
    async with service_process(tmp_path, REQEST_TIMEOUT="hunter2") as process:
        logged = {}
        for _ in range(2):
            entry = await log_event(process, "unknown setting")
            assert "hunter2" not in str(entry)
            logged[entry["variable"]] = entry["nearest"]
        assert logged == {"FANOUT": "FAN_OUT", "REQEST_TIMEOUT": "REQUEST_TIMEOUT"}
        await log_event(process, "listening")


@pytest.mark.parametrize(
    ("host", "reached", "unreached"),
    [("::", ["127.0.0.1", "::1"], []), ("0.0.0.0", ["127.0.0.1"], ["::1"])],
)
async def test_the_unspecified_address_of_ipv6_listens_on_both_families(
    tmp_path: Path, host: str, reached: list[str], unreached: list[str]
) -> None:
    async with service_process(tmp_path, HOST=host) as process, aiohttp.ClientSession() as client:
        port = (await log_event(process, "listening"))["page"].rstrip("/").rpartition(":")[2]
        for address in reached:
            url = f"http://[{address}]:{port}/" if ":" in address else f"http://{address}:{port}/"
            async with client.get(url) as response:
                assert response.status == 200
        for address in unreached:
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((address, int(port)))


async def test_an_address_in_use_stops_the_start_and_names_host_and_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        async with service_process(tmp_path, HOST="127.0.0.1", PORT=port) as process:
            _, error = await process.communicate()
    assert process.returncode not in (0, None)
    assert error.decode() == "HOST, PORT: cannot be listened on: Address already in use\n"
