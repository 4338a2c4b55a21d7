"""How the transport translates aiohttp's errors; `tests/service` tests the rest over sockets."""

import ssl
from typing import Self

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from app.upstream.transport import AiohttpTransport
from tests.fakes import result_or_error

pytestmark = pytest.mark.anyio

REQUEST = aiohttp.RequestInfo(URL("http://a.test"), "GET", CIMultiDictProxy(CIMultiDict()))
KEY = ConnectionKey("a.test", 80, False, True, None, None, None)


class FailingConnection:
    """Stands in for aiohttp's connection and its protocol: the first use raises `error`."""

    should_close = False

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.closed = False

    @property
    def protocol(self) -> Self:
        return self

    def set_response_params(self, **_: object) -> None:
        raise self._error

    def close(self) -> None:
        self.closed = True


class FakeConnector:
    """Stands in for aiohttp's connector: it gives the connection, or raises the error."""

    def __init__(self, result: FailingConnection | Exception) -> None:
        self._result = result

    async def connect(self, *_: object, **__: object) -> FailingConnection:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    async def close(self) -> None:
        pass


async def translate(
    result: FailingConnection | Exception, monkeypatch: pytest.MonkeyPatch
) -> object:
    """What the transport raises on such a connection, or after such an error."""
    monkeypatch.setattr(aiohttp, "TCPConnector", lambda **_: FakeConnector(result))
    async with AiohttpTransport(1) as transport:
        request = httpx.Request("GET", "http://a.test")
        return await result_or_error(transport.handle_async_request(request))


def class_name(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


@pytest.mark.parametrize(
    ("raised", "translated"),
    [
        (aiohttp.ConnectionTimeoutError(), httpx.ConnectTimeout),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), httpx.ConnectError),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "no such name")), httpx.ConnectError),
        (aiohttp.ClientConnectorSSLError(KEY, OSError(1, "ssl")), httpx.ConnectError),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("expired")),
            httpx.ConnectError,
        ),
        (aiohttp.InvalidURL("http://"), httpx.UnsupportedProtocol),
    ],
    ids=class_name,
)
async def test_an_error_while_connecting_becomes_its_httpx_error(
    raised: Exception, translated: type[httpx.TransportError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(await translate(raised, monkeypatch)) is translated


@pytest.mark.parametrize(
    ("raised", "translated"),
    [
        (aiohttp.SocketTimeoutError(), httpx.ReadTimeout),
        (aiohttp.ServerTimeoutError(), httpx.ReadTimeout),
        (TimeoutError(), httpx.ReadTimeout),
        (aiohttp.ServerDisconnectedError(), httpx.RemoteProtocolError),
        (aiohttp.ClientPayloadError(), httpx.RemoteProtocolError),
        (aiohttp.ClientResponseError(REQUEST, ()), httpx.RemoteProtocolError),
        (aiohttp.ClientOSError(104, "reset"), httpx.ReadError),
        (aiohttp.ClientError(), httpx.ReadError),
        (ConnectionResetError(104, "reset"), httpx.ReadError),
    ],
    ids=class_name,
)
async def test_an_error_on_a_connection_becomes_its_httpx_error_and_closes_the_connection(
    raised: Exception, translated: type[httpx.TransportError], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = FailingConnection(raised)
    assert type(await translate(connection, monkeypatch)) is translated
    assert connection.closed
