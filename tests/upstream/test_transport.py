"""What aiohttp raises, as httpx has it: the rest of the transport is tested over real sockets."""

import ssl

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from app.upstream.transport import _translated

REQUEST = aiohttp.RequestInfo(URL("http://a.test"), "GET", CIMultiDictProxy(CIMultiDict()))
KEY = ConnectionKey("a.test", 80, False, True, None, None, None)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (aiohttp.ConnectionTimeoutError(), httpx.ConnectTimeout),
        (aiohttp.SocketTimeoutError(), httpx.ReadTimeout),
        (aiohttp.ServerTimeoutError(), httpx.ReadTimeout),
        (TimeoutError(), httpx.ReadTimeout),
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), httpx.ConnectError),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "no such name")), httpx.ConnectError),
        (aiohttp.ClientConnectorSSLError(KEY, OSError(1, "ssl")), httpx.ConnectError),
        (
            aiohttp.ClientConnectorCertificateError(KEY, ssl.CertificateError("expired")),
            httpx.ConnectError,
        ),
        (aiohttp.InvalidURL("http://"), httpx.UnsupportedProtocol),
        (aiohttp.ServerDisconnectedError(), httpx.RemoteProtocolError),
        (aiohttp.ClientPayloadError(), httpx.RemoteProtocolError),
        (aiohttp.ClientResponseError(REQUEST, ()), httpx.RemoteProtocolError),
        (aiohttp.ClientOSError(104, "reset"), httpx.ReadError),
        (aiohttp.ClientError(), httpx.ReadError),
        (ConnectionResetError(104, "reset"), httpx.ReadError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_every_way_to_break_has_its_name(
    theirs: Exception, ours: type[httpx.TransportError]
) -> None:
    assert type(_translated(theirs)) is ours
