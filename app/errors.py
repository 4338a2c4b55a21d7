"""What can go wrong with a call, as a tree.

    Failure
    ├── Timeout          504  no complete answer in time
    ├── Unreachable      502  no connection, or one that broke
    ├── UpstreamStatus   502  a status other than 200
    ├── Unauthorized     401  the upstream refuses the client's own credentials
    ├── Forbidden        403  the upstream refuses what the client may not have
    ├── InvalidPayload   502  a body that is not what was asked for
    ├── NotFound         404  the resource does not exist
    ├── CircuitOpen      503  the breaker is open
    └── Overloaded       503  no capacity of ours
        └── TooManyRequests   no capacity of the upstream's: it answered 429

Only a `Failure` becomes a failed section. Any other exception is our own bug and surfaces as one.
"""

from math import inf
from typing import ClassVar, Literal, NamedTuple

Reason = Literal[
    "timeout",
    "unreachable",
    "upstream_status",
    "unauthorized",
    "forbidden",
    "invalid_payload",
    "not_found",
    "circuit_open",
    "overloaded",
]


class Policy(NamedTuple):
    """What the layers do about a failure: the one place where failures are classified."""

    retry_on: Literal["any_mirror", "other_mirror", "never"]
    """Where the same question may be asked again at once."""
    breaker: Literal["failure", "success", "ignored"]
    """How the circuit breaker of the mirror counts it. A timeout counts only if the attempt was
    allotted a fair time."""
    answered: bool
    """Whether the upstream did the work of answering: then it counts for latency and limits."""
    stale_if_error: bool
    """Whether last good data may replace the answer (RFC 5861 §4)."""


# A status that HTTP does not have (600 to 999, 0 to 99) counts as a 5xx (RFC 9110 §15), but is a
# word between the upstream and somebody else: nothing says that asking again may help.
# A 4xx other than 408 and 429 is an answer: the upstream did its work, and would give the same one
# again. So it is a success for the breaker, counts for latency and limits, and is not replaced by
# stale data.
# fmt: off
#                   retry_on        breaker    answered  stale_if_error
_FAULT     = Policy("any_mirror",   "failure", False,    True)
_GARBAGE   = Policy("other_mirror", "failure", False,    True)
_NO_STATUS = Policy("never",        "failure", False,    True)
_ANSWER    = Policy("never",        "success", True,     False)
_NOT_ASKED = Policy("never",        "ignored", False,    True)
_QUOTA     = Policy("any_mirror",   "ignored", False,    True)
# fmt: on


class Failure(Exception):
    """A call that ended without an answer.

    `detail` goes to clients: it must not name hosts, URLs, headers or bodies. `cause` goes to the
    log: the name of what happened underneath. `retry_after` is in seconds. `retryable` tells
    clients whether asking again may help; `policy` tells the layers what to do.
    """

    reason: ClassVar[Reason]
    status: ClassVar[int]
    title: ClassVar[str]
    retryable: bool = True
    policy: Policy

    def __init__(
        self, detail: str, *, cause: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cause = cause
        self.retry_after = retry_after


class Timeout(Failure):
    """`allotted`: seconds that the attempt was given, where a deadline may have cut them short."""

    reason = "timeout"
    status = 504
    title = "The upstream did not answer in time"
    policy = _FAULT

    def __init__(self, detail: str, *, cause: str | None = None, allotted: float = inf) -> None:
        super().__init__(detail, cause=cause)
        self.allotted = allotted


class Unreachable(Failure):
    reason = "unreachable"
    status = 502
    title = "The upstream could not be reached"
    policy = _FAULT


class UpstreamStatus(Failure):
    """`retryable` is true for 5xx and 408 only: the same question may be answered later."""

    reason = "upstream_status"
    status = 502
    title = "The upstream answered with an error"

    def __init__(self, code: int, *, retry_after: float | None = None) -> None:
        super().__init__(
            f"the upstream answered {code:03}", cause=f"HTTP {code:03}", retry_after=retry_after
        )
        self.retryable = 500 <= code <= 599 or code == 408
        if self.retryable:
            self.policy = _FAULT
        else:
            self.policy = _ANSWER if 100 <= code <= 599 else _NO_STATUS


class Unauthorized(Failure):
    """The upstream's own 401, told as such where the call carried a header of the client's.

    `scheme` is the one that the upstream asks for (RFC 9110 §11.1).
    """

    reason = "unauthorized"
    status = 401
    title = "The upstream does not know the client"
    retryable = False
    policy = _ANSWER

    def __init__(self, scheme: str = "Bearer") -> None:
        super().__init__("the upstream answered 401 to the client's own headers", cause="HTTP 401")
        self.scheme = scheme


class Forbidden(Failure):
    """The upstream's own 403, as its 401."""

    reason = "forbidden"
    status = 403
    title = "The client may not have this"
    retryable = False
    policy = _ANSWER

    def __init__(self) -> None:
        super().__init__("the upstream answered 403 to the client's own headers", cause="HTTP 403")


class InvalidPayload(Failure):
    reason = "invalid_payload"
    status = 502
    title = "The upstream's answer could not be understood"
    retryable = False
    policy = _GARBAGE


class NotConfirmed(InvalidPayload):
    """A 304 that is about another answer than the one that is stored (RFC 9111 §4.3.4)."""

    policy = _ANSWER


class NotFound(Failure):
    reason = "not_found"
    status = 404
    title = "There is no such resource"
    retryable = False
    policy = _ANSWER


class CircuitOpen(Failure):
    reason = "circuit_open"
    status = 503
    title = "The upstream failed too often to be asked now"
    policy = _NOT_ASKED


class Overloaded(Failure):
    reason = "overloaded"
    status = 503
    title = "There is no capacity for this call right now"
    policy = _NOT_ASKED


class TooManyRequests(Overloaded):
    """The upstream's lack of capacity, not ours: asking again at once may help."""

    policy = _QUOTA
