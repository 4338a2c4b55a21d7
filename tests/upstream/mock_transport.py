"""One exchange over `httpx.MockTransport`, whose handler is the upstream."""

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
POSTS = b'[{"userId":1,"id":1,"title":"t","body":"b"}]'

Handler = Callable[[httpx.Request], httpx.Response]


class Body(httpx.AsyncByteStream):
    """A response body in `chunks`, without a `Content-Length`; it counts the chunks read."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks
        self.chunks_read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            self.chunks_read += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


async def send(handler: Handler, call: Call, settings: UpstreamSettings | None = None) -> Answer:
    """One exchange for `call`."""
    async with Client(httpx.MockTransport(handler)) as client:
        upstream, url = settings or UpstreamSettings(), "http://mirror.test/api"
        reply = await exchange(client, url, upstream, lambda _: None, mirror=0)(call)
        return reply.decode()


async def fetch(
    handler: Handler,
    question: Question | None = None,
    settings: UpstreamSettings | None = None,
) -> Answer:
    """One exchange for a new call."""
    return await send(handler, Call(question or posts_by(1), a_context()), settings)


async def answer_from(body: bytes = POSTS, status: int = 200, **headers: str) -> Answer:
    """The answer that such a response becomes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await fetch(lambda _: httpx.Response(status, headers=JSON | named, stream=Body(body)))


async def failure_from(response: httpx.Response, question: Question | None = None) -> Failure:
    """The failure that `response` becomes."""
    failure = await result_or_error(fetch(lambda _: response, question))
    assert isinstance(failure, Failure)
    return failure
