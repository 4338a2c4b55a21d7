"""The memory that large answers take until their clients have them: a bound for each and for all.

How large an answer of many parts will be is not known before, nor how slowly its client reads it.
"""

from collections import deque
from collections.abc import Iterable
from weakref import WeakSet

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

_SMALL = 65_536
"""Bytes. A thousand connections hold no more than 64 MiB of such answers: they are not counted."""
_ALL = 4
"""Times the bound of one answer."""
_CHUNK = 65_536
"""Bytes that are sent at once, where parts are smaller: each time costs some microseconds."""


class AnswerMemory:
    """Room for answers of `answer_max` bytes each, and of four times that together.

    An answer may grow up to what all of them leave. So a few whose clients do not read them share
    most of the room, and the next one still finds some (Choudhury and Hahne, "Dynamic queue length
    thresholds for shared-memory packet switches", 1998).
    """

    def __init__(self, answer_max: int) -> None:
        self._answer_max = answer_max
        self._answers: WeakSet[LargeAnswer] = WeakSet()
        self.small = min(_SMALL, answer_max)
        """The size of answers, in bytes, up to which they need no room here."""

    def begin(self) -> "LargeAnswer":
        """An answer that has no parts yet. It takes room as long as it exists."""
        answer = LargeAnswer(self)
        self._answers.add(answer)
        return answer

    @property
    def left(self) -> int:
        """The size that an answer may have now, in bytes."""
        taken = sum(answer.taken for answer in self._answers)
        return min(self._answer_max, _ALL * self._answer_max - taken)


class LargeAnswer:
    """The parts of one answer: bytes of JSON that need only be joined."""

    def __init__(self, memory: AnswerMemory) -> None:
        self._memory = memory
        self._parts: deque[bytes] = deque()
        self.taken = 0
        """Bytes of room."""
        self.full = False
        """Whether it was refused room."""

    @property
    def room(self) -> int:
        """Bytes by which it may grow now."""
        return self._memory.left - self.taken

    def take(self, size: int) -> bool:
        """Take room for `size` bytes more, if there is any."""
        if size > self.room:
            self.full = True
            return False
        self.taken += size
        return True

    def set_parts(self, parts: Iterable[bytes]) -> int:
        """The answer, for which room has been taken; returns its length in bytes."""
        self._parts.extend(parts)
        return sum(map(len, self._parts))

    def pop(self) -> bytes:
        """The next bytes to send: one part, or several small ones."""
        parts = [self._parts.popleft()]
        size = len(parts[0])
        while self._parts and size + len(self._parts[0]) <= _CHUNK:
            parts.append(self._parts.popleft())
            size += len(parts[-1])
        return b"".join(parts)

    def __bool__(self) -> bool:
        return bool(self._parts)


class LargeResponse(Response):
    """`response` with `parts` as its body, sent as fast as the client reads, and then let go."""

    def __init__(self, response: Response, answer: LargeAnswer, parts: Iterable[bytes]) -> None:
        super().__init__(status_code=response.status_code)
        length = answer.set_parts(parts)
        self.raw_headers = [
            *(header for header in response.raw_headers if header[0] != b"content-length"),
            (b"content-length", b"%d" % length),
        ]
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer, unsent = self._answer, 0
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        while answer:
            chunk = answer.pop()
            # Waits until the chunk before has been sent.
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            answer.taken -= unsent
            unsent = len(chunk)
        await send({"type": "http.response.body", "body": b""})
