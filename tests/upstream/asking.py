"""One question to a client whose transport answers as told."""

from collections.abc import AsyncIterator, Callable

import httpx

from app.call import Answer, Call, Question
from app.errors import Failure
from app.settings import UpstreamSettings
from app.sources.posts import posts_by
from app.upstream.client import Client
from app.upstream.exchange import exchange
from tests.fakes import a_context, result_or_error

JSON = {"content-type": "application/json"}
BODY = b'[{"userId":1,"id":1,"title":"t","body":"b"}]'

Handle = Callable[[httpx.Request], httpx.Response]


class Stream(httpx.AsyncByteStream):
    """A body that comes in `chunks`, its length not told; it knows how far it was read."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.read += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


async def sent(handle: Handle, call: Call, settings: UpstreamSettings | None = None) -> Answer:
    """One exchange for a call that may have been through others."""
    async with Client(httpx.MockTransport(handle)) as client:
        return await exchange(client, "http://mirror.test/api", settings or UpstreamSettings())(
            call
        )


async def asked(
    handle: Handle,
    question: Question | None = None,
    settings: UpstreamSettings | None = None,
) -> Answer:
    return await sent(handle, Call(question or posts_by(1), a_context()), settings)


async def answered(body: bytes = BODY, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asked(lambda _: httpx.Response(status, headers=JSON | named, stream=Stream(body)))


async def failed(response: httpx.Response, question: Question | None = None) -> Failure:
    failure = await result_or_error(asked(lambda _: response, question))
    assert isinstance(failure, Failure)
    return failure
