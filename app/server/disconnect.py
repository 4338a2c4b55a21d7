"""A client that disconnects takes its work along."""

import asyncio
from types import TracebackType

from starlette.types import Receive


class ClientDisconnected(Exception):
    """Nobody is left to answer."""


class CancelOnDisconnect:
    """`async with` around work for one client: when the client leaves, the work is cancelled.

    FastAPI goes on with a handler whose client has left. Uvicorn says so only to whoever is
    receiving; our requests have no body, so this may be the one receiver.
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
            pass  # the watch's own, or ours: told apart below by counting, as asyncio.timeout does
        if self._disconnected:
            self._worker.uncancel()
        if exc is not None and not isinstance(exc, asyncio.CancelledError):
            return  # a bug is not hidden by the client's leaving
        if self._worker.cancelling() > self._cancelled_before:
            raise asyncio.CancelledError from exc  # somebody else's cancellation goes first
        if self._disconnected:
            raise ClientDisconnected from exc
