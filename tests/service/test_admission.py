"""What the process cannot do in time is refused, over real sockets."""

import asyncio
import json
from typing import Any

import pytest
from uvicorn.server import ServerState

from app.server.http_protocol import HttpProtocol
from tests.service.running import RunningService, eventually, running_service

pytestmark = pytest.mark.anyio


@pytest.fixture
def shedding(monkeypatch: pytest.MonkeyPatch) -> None:
    """All requests are too many."""
    monkeypatch.setattr("app.server.admission_queue.AdmissionQueue._longest_wait", lambda _: -1.0)
    monkeypatch.setattr("app.server.admission_queue._SLICE", -1.0)


def request_lines(output: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in output.splitlines()]
    return [line for line in lines if line["event"] == "request"]


@pytest.mark.usefixtures("shedding")
async def test_a_request_that_is_shed_has_its_id_and_a_line_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running_service(log_format="json") as service:
        response = await service.overview(X_Request_ID="mine")
    assert (response.status, response.headers["X-Request-ID"]) == (503, "mine")
    assert response.headers["Retry-After"] == "1"
    (line,) = request_lines(capsys.readouterr().out)
    assert (line["method"], line["path"]) == ("GET", "/v1/users/1/overview")
    assert (line["status"], line["request_id"]) == (503, "mine")
    assert line["refused"] == "overloaded"


@pytest.mark.usefixtures("shedding")
async def test_a_flood_of_shed_requests_has_some_lines_and_not_all(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with running_service(log_format="json") as service:
        for _ in range(300):
            assert (await service.overview()).status == 503
    assert 100 <= len(request_lines(capsys.readouterr().out)) < 300


@pytest.mark.usefixtures("shedding")
async def test_requests_that_are_shed_do_not_make_the_others_look_cheap() -> None:
    async with running_service(log_level="error") as service:
        before = service.config.admission.cost
        for _ in range(200):
            assert (await service.overview()).status == 503
        assert service.config.admission.cost == before


@pytest.mark.usefixtures("shedding")
async def test_probes_are_answered_when_all_requests_are_shed() -> None:
    async with running_service(log_level="error") as service:
        assert (await service.get("/livez")).status == 200
        assert (await service.get("/readyz")).status == 200


@pytest.mark.parametrize(
    ("request_", "refused", "path"),
    [
        (b"BREW /pot HTTP/1.1\r\n\r\n", "malformed_request", None),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 65_600, "head_too_large", None),
    ],
)
async def test_what_is_no_request_has_an_id_and_a_line_in_the_log(
    request_: bytes, refused: str, path: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(log_format="json") as service:
        reader, writer = await connection(service)
        writer.write(request_)
        head = (await asyncio.wait_for(reader.read(65_536), 2)).partition(b"\r\n\r\n")[0]
        writer.close()
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert (line["event"], line["refused"], line["path"]) == ("request", refused, path)
    assert line["request_id"].encode() == fields[b"x-request-id"]


class Wire(asyncio.Transport):
    """What a connection sends, without a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: Any) -> None:
        self.sent += data

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    abort = close


@pytest.mark.parametrize("next_", [b"\x16\x03\x01\r\n\r\n", b"a" * 65_537], ids=["400", "431"])
async def test_a_refusal_has_nothing_of_the_request_before_it_on_its_connection(
    next_: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_service(log_format="json") as service:
        wire, loop = Wire(), asyncio.get_running_loop()
        connection = HttpProtocol(service.config, ServerState(), {}, loop)
        connection.connection_made(wire)
        connection.data_received(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-ID: first\r\n\r\n")
        assert await eventually(lambda: b'"alive"}' in wire.sent)
        connection.data_received(next_)
        connection.connection_lost(None)
    assert wire.sent.count(b"HTTP/1.1 ") == 2
    assert wire.sent.count(b"x-request-id: first") == 1
    line = request_lines(capsys.readouterr().out)[-1]
    assert (line["method"] or line["path"], line["refused"] is None) == (None, False)


async def connection(
    service: RunningService,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = service.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))
