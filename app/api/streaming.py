"""Answers that leave piece by piece, each piece when it is there."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.hangup import CancelOnDisconnect

UNSTORED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What comes to be known as it leaves is not for keeping, nor for a proxy to collect."""


class ClosingStreamingResponse(StreamingResponse):
    """Ends when its content does or its client leaves, and leaves nothing of the content behind.

    Starlette and FastAPI cancel whoever sends, but let a generator that waits to be continued go
    to the garbage collector, with all that it has under way. When a bug of ours ends the content,
    the client hears `error_tail`, and that the connection breaks.
    """

    def __init__(
        self,
        content: AsyncGenerator[bytes],
        media_type: str,
        headers: dict[str, str],
        error_tail: bytes = b"",
    ) -> None:
        super().__init__(content, media_type=media_type, headers={**UNSTORED, **headers})
        self._content = content
        self._error_tail = error_tail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with CancelOnDisconnect(receive), aclosing(self._content):
            if "without_content" in scope:  # HEAD: no header depends on the work
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
                    raise bug  # whoever hears it
