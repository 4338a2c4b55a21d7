"""The types of a call, and those of a layer: `Fetch`, and `Layer`, which wraps one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal, Protocol, runtime_checkable

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Data:
    """A body that passed its model: `json` is what we send on, `dropped` counts the broken items.

    Equal digests mean equal data.
    """

    json: bytes
    dropped: int = 0
    digest: bytes = b""


Decode = Callable[[bytes], Data]

Key = tuple[str, str, Decode, tuple[Header, ...]]
"""Upstream, target, decoder and forwarded headers: all that may change an answer."""


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


class Event:
    """Something that happened on the way of a call. Values only, for telemetry and timelines."""

    __slots__ = ()


Emit = Callable[[Event], None]


@dataclass(slots=True)
class Admission:
    """Whether a client request is let in or shed: decided once, at its first call.

    `expected_waits` gives the seconds until a newcomer has a permit, now, at each upstream that the
    request needs. `overload_wait` is how long a request that was shed would have had to wait.
    """

    expected_waits: Callable[[], Sequence[float]] = tuple
    decided: bool = False
    overload_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """On whose behalf a call is made.

    `deadline` is an instant of the event loop's clock, in seconds. `fan_out` holds the attempts
    that this one client request may have in flight. `headers` are passed upstream and may change
    the answer; those of `trace` only say whose it is. With `no_cache`, nothing that is stored is
    used, nor what was asked before the request `arrived`; with `no_store`, the answer is not stored
    either. `watch` receives every event of this request.
    """

    deadline: float
    fan_out: asyncio.Semaphore
    request_id: str
    headers: tuple[Header, ...] = ()
    trace: tuple[Header, ...] = ()
    arrived: float = 0.0
    no_cache: bool = False
    no_store: bool = False
    admission: Admission = field(default_factory=Admission)
    watch: Emit | None = None


@dataclass(slots=True)
class Tally:
    """What a call has cost so far, and where its answer came from; part of every outcome."""

    attempts: int = 0
    retries: int = 0
    hedges: int = 0
    mirror: int = -1
    """The last one asked: its index among the upstream's URLs."""
    last_sent_timeout_ms: int = 2**53
    """`X-Request-Timeout-Ms` of the last attempt: the next one sends less."""
    coalesced: bool = False
    cache: Literal["miss", "request", "stale", "hit"] = "miss"
    """`hit`: from the cache. The others are reasons to ask the upstream (RFC 9211 §2.2): nothing
    was stored, the client's request said so, or the stored answer was stale."""
    validated: bool = False
    """Whether the upstream confirmed what is stored, with a 304."""
    stored: bool = False
    out_of_time: bool = False
    """Whether only the deadline kept the call from another try."""

    @property
    def cost(self) -> tuple[int, int, int]:
        return self.attempts, self.retries, self.hedges


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How long an answer may be used, in instants of the event loop's clock.

    After `fresh_until` it may be used until `while_revalidate` while it is being revalidated,
    and until `if_error` if the upstream cannot be asked (RFC 5861). Neither is before
    `fresh_until`. `validators` are the conditions of a revalidation (RFC 9110 §13.1),
    `stored_headers` the response headers that the policy was read from.
    """

    fresh_until: float
    while_revalidate: float
    if_error: float
    validators: tuple[Header, ...] = ()
    stored_headers: Mapping[str, str] = field(default_factory=dict)


UNCACHEABLE = CachePolicy(-inf, -inf, -inf)
"""The answer is for the call that asked, and for no other."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Good data from an upstream; `as_of` says when they were good, in Unix seconds.

    `stale` is last good data in place of an answer that could not be had. `requested_at` is when
    the exchange began, an instant of the event loop's clock. `waited` are the seconds for which we
    had other things to do: they say nothing of the upstream.
    """

    data: Data
    as_of: float
    cache_policy: CachePolicy = UNCACHEABLE
    stale: bool = False
    requested_at: float = 0.0
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What an exchange has brought: `size` bytes, and the answer that they can be decoded into.

    `decode` raises `InvalidPayload` if they cannot.
    """

    size: int
    decode: Callable[[], Answer]


@dataclass(frozen=True, slots=True)
class Call:
    """One question on somebody's behalf. `known` is a stored answer that may still be good."""

    question: Question
    context: Context
    tally: Tally = field(default_factory=Tally)
    known: Answer | None = None

    @property
    def key(self) -> Key:
        """Calls with equal keys get equal answers: nothing else of a call may change its answer."""
        question = self.question
        return (question.upstream, question.target, question.decode, self.context.headers)


Exchange = Callable[[Call], Awaitable[Reply]]
Fetch = Callable[[Call], Awaitable[Answer]]
Layer = Callable[[Fetch], Fetch]


@runtime_checkable
class CachedFetch(Protocol):
    """A fetch that finds some answers without waiting, and so without a task."""

    def lookup(self, call: Call) -> Answer | None:
        """A stored answer, if it may be used."""

    async def __call__(self, call: Call) -> Answer:
        """Ask the upstream, whatever is stored."""
