"""Answers that leave piece by piece, each piece when it is there."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.hangup import HangUp

UNSTORED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What comes to be known as it leaves is not for keeping, nor for a proxy to collect."""


class Streamed(StreamingResponse):
    """Ends when its content does or its client leaves, and leaves nothing of the content behind.

    Starlette and FastAPI cancel whoever sends, but let a generator that waits to be continued go
    to the garbage collector, with all that it has under way.
    """

    def __init__(
        self, content: AsyncGenerator[bytes], media_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(content, media_type=media_type, headers={**UNSTORED, **headers})
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with HangUp(receive), aclosing(self._content):
            await self.stream_response(send)
