"""Answers that are sent piece by piece, each piece when it is there."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.server.disconnect import CancelOnDisconnect
from app.server.request_state import RequestState

_UNSTORED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What is not known before it is sent is not to be kept, nor to be buffered by a proxy."""


class ClosingStreamingResponse(StreamingResponse):
    """Ends when its content does or its client leaves, and always closes the content.

    Starlette and FastAPI cancel whoever sends, but leave a generator that waits to be continued to
    the garbage collector, with all that it has in flight. When a bug of ours ends the content, the
    client gets the `error_tail`, and the connection breaks.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        media_type: str,
        headers: dict[str, str],
        error_tail: bytes = b"",
    ) -> None:
        super().__init__(content, media_type=media_type, headers={**_UNSTORED, **headers})
        self._content = content
        self._error_tail = error_tail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with CancelOnDisconnect(receive), aclosing(self._content):
            if RequestState.of(scope).head_only:  # no header depends on the work
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
                    raise bug  # whatever becomes of the tail
