"""The store of the section cache: answers by key, in memory, bounded by bytes."""

from collections import OrderedDict

from app.call import Answer, Key

_MAX_BYTES = 64 * 2**20
_OVERHEAD = 2048
"""Bytes that an entry takes beside its data, key and headers."""


class Store:
    """Never more than `max_bytes`, shared by all upstreams; the least recently used go first.

    A key contains the forwarded headers, credentials included: an entry belongs to them alone.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> Answer | None:
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> bool:
        """Store `answer` in place of an older one, unless it is too large for that.

        What was asked for later is newer, whichever came first.
        """
        if not self.delete(key, answer.requested_at):
            return False
        size = _size(key, answer)
        if size > self._max_bytes:
            return False
        self._answers[key] = answer
        self.size += size
        while self.size > self._max_bytes:
            self.size -= _size(*self._answers.popitem(last=False))
        return True

    def delete(self, key: Key, requested_at: float) -> bool:
        """Delete what is stored, unless it was asked for after the instant `requested_at`."""
        answer = self._answers.get(key)
        if answer is None:
            return True
        if answer.requested_at > requested_at:
            return False
        del self._answers[key]
        self.size -= _size(key, answer)
        return True


def _size(key: Key, answer: Answer) -> int:
    _, target, _, headers = key
    return (
        _OVERHEAD
        + len(answer.data.json)
        + len(target)
        + sum(len(name) + len(value) for name, value in headers)
        + sum(len(name) + len(value) for name, value in answer.cache_policy.stored_headers.items())
    )
