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


async def test_an_address_in_use_stops_the_start_and_names_host_and_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        async with service_process(tmp_path, HOST="127.0.0.1", PORT=port) as process:
            _, error = await process.communicate()
    assert process.returncode not in (0, None)
    assert error.decode() == "HOST, PORT: cannot be listened on: Address already in use\n"
