"""The store of the section cache: answers by key, in memory, bounded by bytes."""

from collections import OrderedDict

from app.call import Answer, Key

_MAX_BYTES = 64 * 2**20
_OVERHEAD = 2048
"""Bytes that an entry takes beside its data, key and headers."""
_MAX_DELETED = 1024
"""Deletions that are remembered. Only what was in flight already may come after one."""


class Store:
    """Never more than `max_bytes`, shared by all upstreams; the least recently used go first.

    A key contains the forwarded headers, credentials included: an entry belongs to them alone.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._deleted: OrderedDict[Key, float] = OrderedDict()
        """Since when the upstream has no answer that may be stored."""
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
        if self._knows_newer(key, answer.requested_at):
            return False
        self._remove(key)
        size = _size(key, answer)
        if size > self._max_bytes:
            return False
        self._answers[key] = answer
        self.size += size
        while self.size > self._max_bytes:
            self.size -= _size(*self._answers.popitem(last=False))
        return True

    def delete(self, key: Key, requested_at: float) -> None:
        """Delete what was asked for before the instant `requested_at`, stored or still to come."""
        if self._knows_newer(key, requested_at):
            return
        self._remove(key)
        self._deleted[key] = requested_at
        self._deleted.move_to_end(key)
        if len(self._deleted) > _MAX_DELETED:
            self._deleted.popitem(last=False)

    def _knows_newer(self, key: Key, requested_at: float) -> bool:
        stored = self._answers.get(key)
        if stored is not None and stored.requested_at > requested_at:
            return True
        return self._deleted.get(key, requested_at) > requested_at

    def _remove(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self.size -= _size(key, answer)


def _size(key: Key, answer: Answer) -> int:
    _, target, _, headers = key
    return (
        _OVERHEAD
        + len(answer.data.json)
        + len(target)
        + sum(len(name) + len(value) for name, value in headers)
        + sum(len(name) + len(value) for name, value in answer.cache_policy.stored_headers.items())
    )
