"""The connections of clients: a bound on all of them, and who goes first when it is reached.

Without one, clients that do nothing take the descriptors that new clients and our own calls to
upstreams need.
"""

from typing import Protocol


class ClientConnection(Protocol):
    def close(self) -> None:
        """End it, whatever it is doing."""


class ClientConnections:
    """At most `limit` at once. When one more comes, the longest idle goes, or the longest stuck.

    Idle is a connection without a request, and one whose request is not complete: so whoever sends
    a head for ever goes too. Stuck is one whose client does not read its answer.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._all: set[ClientConnection] = set()
        # In the order in which they became so.
        self._idle: dict[ClientConnection, None] = {}
        self._stuck: dict[ClientConnection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: ClientConnection) -> bool:
        """Whether there is room for it: not if all others are busy."""
        if len(self._all) >= self.limit and not self._close_one():
            return False
        self._all.add(connection)
        self._idle[connection] = None
        return True

    def remove(self, connection: ClientConnection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)
        self._stuck.pop(connection, None)

    def on_busy(self, connection: ClientConnection) -> None:
        self._idle.pop(connection, None)

    def on_idle(self, connection: ClientConnection) -> None:
        if connection in self._all:
            self._idle[connection] = None

    def on_stuck(self, connection: ClientConnection) -> None:
        if connection in self._all:
            self._stuck.setdefault(connection)

    def on_reading(self, connection: ClientConnection) -> None:
        self._stuck.pop(connection, None)

    def _close_one(self) -> bool:
        for candidates in (self._idle, self._stuck):
            if candidates:
                connection = next(iter(candidates))
                self.remove(connection)
                connection.close()
                return True
        return False
