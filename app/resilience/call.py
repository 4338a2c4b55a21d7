"""The nouns of a call, and the two shapes that every layer is made of."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from app.resilience.events import Emit

Header = tuple[bytes, bytes]
Key = tuple[str, str, tuple[Header, ...]]


@dataclass(frozen=True, slots=True)
class Data:
    """A body that passed its model: `json` is what we send on, `dropped` what did not fit in.

    Two data with the same `digest` are the same.
    """

    json: bytes
    dropped: int = 0
    digest: bytes = b""


Decode = Callable[[bytes], Data]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an upstream, before it is known on whose behalf.

    `target` is path and query, already encoded. With `not_found_on_404`, a 404 means that the
    resource does not exist; without, it is a status like any other.
    """

    upstream: str
    target: str
    decode: Decode
    not_found_on_404: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """On whose behalf a call is made.

    `deadline` is an instant of the event loop's clock, in seconds. `fan_out` holds the attempts
    that this one client request may have in flight. `headers` are passed upstream and may change
    the answer; those of `trace` only tell whose it is. With `no_cache`, the client wants nothing
    that we already have. `overload_wait` turns the request away: it would wait for so many seconds.
    `watch` hears of all that is done for this request.
    """

    deadline: float
    fan_out: asyncio.Semaphore
    request_id: str
    headers: tuple[Header, ...] = ()
    trace: tuple[Header, ...] = ()
    no_cache: bool = False
    overload_wait: float | None = None
    watch: "Emit | None" = None


@dataclass(slots=True)
class Tally:
    """What a call has cost so far, and how its answer was come by; told with every outcome."""

    attempts: int = 0
    retries: int = 0
    hedges: int = 0
    mirror: int = -1
    """The last one asked, by its place among the upstream's URLs."""
    last_sent_timeout_ms: int = 2**53
    """What the last attempt was told that it has left: the next one is told less."""
    coalesced: bool = False
    cache: Literal["miss", "request", "stale", "hit"] = "miss"
    """Where the answer came from: the cache (`hit`), or the upstream for one of the reasons of
    RFC 9211 §2.2: nothing was stored, the client wanted it so, what was stored was stale."""
    validated: bool = False
    """Whether the upstream said that what we have is still good."""
    stored: bool = False

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.attempts, self.retries, self.hedges


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long an answer may be used, in instants of the event loop's clock.

    After `fresh_until` it may be used until `while_revalidate` if somebody asks again meanwhile,
    and until `if_error` if nobody can be asked (RFC 5861). Neither is before `fresh_until`.
    `validators` are the conditions of a revalidation (RFC 9110 §13.1), `stored_headers` the headers
    that all this was read from.
    """

    fresh_until: float
    while_revalidate: float
    if_error: float
    validators: tuple[Header, ...] = ()
    stored_headers: Mapping[str, str] = field(default_factory=dict)


UNCACHEABLE = CachePolicy(-inf, -inf, -inf)
"""For those who asked, and for nobody after them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an upstream said: good data, and since when (Unix seconds).

    `stale` is last good data in place of an answer that could not be had.
    """

    data: Data
    as_of: float
    cache_policy: CachePolicy = UNCACHEABLE
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One question on somebody's behalf. `known` is an answer that may still be good."""

    question: Question
    context: Context
    tally: Tally = field(default_factory=Tally)
    known: Answer | None = None

    @property
    def key(self) -> Key:
        """Calls with equal keys get equal answers: nothing else of a call may change its answer."""
        return (self.question.upstream, self.question.target, self.context.headers)


Fetch = Callable[[Call], Awaitable[Answer]]
Layer = Callable[[Fetch], Fetch]
