"""Streams: responses that are sent in pieces, each as soon as it is ready."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.server.disconnect import CancelOnDisconnect
from app.server.request_state import RequestState

_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Whether a stream will be complete is unknown when its head is sent, so it must not be stored. A
proxy must not buffer it."""


class ClosingStreamingResponse(StreamingResponse):
    """Ends when its content ends or its client disconnects, and always closes the content.

    Starlette and FastAPI cancel the sending task, but leave a suspended generator to the garbage
    collector, with all that it has in flight. When a bug of ours ends the content, the client gets
    the `error_tail`, and the connection breaks.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        media_type: str,
        headers: dict[str, str],
        error_tail: bytes = b"",
    ) -> None:
        super().__init__(content, media_type=media_type, headers={**_STREAM_HEADERS, **headers})
        self._content = content
        self._error_tail = error_tail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with CancelOnDisconnect(receive), aclosing(self._content):
            if RequestState.of(scope).head_only:  # no header depends on the content
                start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                await send(start)
                await send({"type": "http.response.body"})
                return
            try:
                await self.stream_response(send)
            except Exception as bug:  # noqa: BLE001 - it is raised again below
                body = {"type": "http.response.body", "body": self._error_tail, "more_body": True}
                try:
                    await send(body)
                finally:
                    raise bug  # even if the tail cannot be sent
