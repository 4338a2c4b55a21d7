"""The nouns of a call, and the two shapes that every layer is made of."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Data:
    """A body that passed its model: `json` is what we send on, `dropped` what did not fit in."""

    json: bytes
    dropped: int = 0


Decode = Callable[[bytes], Data]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an upstream, before it is known on whose behalf.

    `target` is path and query, already encoded. With `may_be_absent`, a 404 means that the
    resource does not exist; without, it is a status like any other.
    """

    upstream: str
    target: str
    decode: Decode
    may_be_absent: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """On whose behalf a call is made.

    `deadline` is an instant of the event loop's clock, in seconds. `fan_out` holds the attempts
    that this one client request may have in flight. `headers` are passed upstream and may change
    the answer; those of `trace` only tell whose it is.
    """

    deadline: float
    fan_out: asyncio.Semaphore
    request_id: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    trace: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(slots=True)
class Tally:
    """What a call has cost so far; failures are told with it."""

    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    question: Question
    context: Context
    tally: Tally = field(default_factory=Tally)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream said: good data, since when (Unix seconds), and fresh for how long."""

    data: Data
    as_of: float
    fresh_for: float


Fetch = Callable[[Call], Awaitable[Answer]]
Layer = Callable[[Fetch], Fetch]
