"""How long a connection may make no progress: without a request, or with an answer not taken."""

import asyncio

IDLE_TIMEOUT = 75
"""Seconds without progress: an idle connection, a request that does not end, an answer not taken.

Longer than load balancers keep an idle connection (60 s is usual), so that they close it first and
never send a request on a connection that we are closing.
"""


class IdleTimeout:
    """Aborts a connection that waits too long for its client."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._request: asyncio.TimerHandle | None = None
        self._reader: asyncio.TimerHandle | None = None

    def wait_for_request(self) -> None:
        """A request may take so long to come, a connection so long without one."""
        if self._request is None:
            self._request = self._loop.call_later(IDLE_TIMEOUT, self._transport.abort)

    def on_request(self) -> None:
        if self._request is not None:
            self._request.cancel()
            self._request = None

    def wait_for_reader(self) -> None:
        """TCP alone would wait for ever for a client that is connected and reads nothing."""
        unsent = self._transport.get_write_buffer_size()
        self._reader = self._loop.call_later(IDLE_TIMEOUT, self._check_reader, unsent)

    def on_read(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def cancel(self) -> None:
        self.on_request()
        self.on_read()

    def _check_reader(self, unsent_before: int) -> None:
        if self._transport.get_write_buffer_size() < unsent_before:
            self.wait_for_reader()
        else:
            self._transport.abort()
