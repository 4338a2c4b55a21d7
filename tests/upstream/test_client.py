import httpx
import pytest

from app.upstream.client import Client
from tests.fakes import result_or_error

pytestmark = pytest.mark.anyio


async def test_a_redirect_is_returned_and_not_followed() -> None:
    paths: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return httpx.Response(302, headers={"Location": "http://elsewhere.test/b"})

    async with Client(httpx.MockTransport(handler)) as client:
        response = await client.get("http://a.test/a")
    assert (response.status_code, paths) == (302, ["/a"])


async def test_cookies_are_not_stored() -> None:
    cookies: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        cookies.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"Set-Cookie": "who=ada; Path=/"})

    async with Client(httpx.MockTransport(handler)) as client:
        for _ in range(2):
            await client.get("http://a.test/")
        assert len(client.cookies) == 0
    assert cookies == [None, None]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.test")
    async with Client(httpx.MockTransport(lambda _: httpx.Response(200, text="direct"))) as client:
        assert (await client.get("http://a.test/")).text == "direct"


async def test_a_response_is_read_to_its_end_closed_and_knows_its_request() -> None:
    async with Client(httpx.MockTransport(lambda _: httpx.Response(200, text="hello"))) as client:
        response = await client.get("http://a.test/a")
    assert (response.text, response.request.url.path, response.is_closed) == ("hello", "/a", True)


async def test_a_streamed_response_stays_open() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text="hello"))
    async with Client(transport) as client, client.stream("GET", "http://a.test/") as response:
        assert await response.aread() == b"hello"


async def test_a_closed_client_sends_nothing() -> None:
    client = Client(httpx.MockTransport(lambda _: httpx.Response(200)))
    await client.aclose()
    error = await result_or_error(client.get("http://a.test/"))
    assert isinstance(error, RuntimeError)
