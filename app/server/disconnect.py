"""When a client disconnects, the work for it is cancelled."""

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientDisconnected(Exception):
    """The client disconnected before it had its answer."""


class CancelOnDisconnect:
    """`async with` around work for one client: a disconnect cancels it.

    FastAPI goes on with a handler whose client has disconnected. Uvicorn reports a disconnect only
    through `receive`; our requests have no body, so nobody else needs to call it.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._disconnected = False

    async def __aenter__(self) -> None:
        worker = asyncio.current_task()
        assert worker is not None
        self._worker = worker
        self._cancelled_before = worker.cancelling()
        self._watch = asyncio.create_task(self._cancel_when_disconnected())

    async def _cancel_when_disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnected = True
        self._worker.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._watch.cancel()
        try:
            await self._watch
        except asyncio.CancelledError:
            pass  # the watch's, or the worker's: counted below, as asyncio.timeout does
        if self._disconnected:
            self._worker.uncancel()
        if exc is not None and not isinstance(exc, asyncio.CancelledError):
            return  # a bug is not hidden by a disconnect
        if self._worker.cancelling() > self._cancelled_before:
            raise asyncio.CancelledError from exc  # a cancellation by others goes before ours
        if self._disconnected:
            raise ClientDisconnected from exc
