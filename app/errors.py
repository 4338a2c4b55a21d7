"""What can go wrong with a call, as a tree.

    Failure
    ├── Timeout          504  no complete answer in time
    ├── Unreachable      502  no connection, or one that broke
    ├── UpstreamStatus   502  a status other than 200
    ├── InvalidPayload   502  a body that is not what was asked for
    ├── NotFound         404  the resource does not exist
    ├── CircuitOpen      503  the breaker is open
    └── Overloaded       503  no capacity of ours
        └── TooManyRequests   no capacity of the upstream's: it said 429

Only a `Failure` becomes a failed section. Any other exception is our own bug and surfaces as one.
"""

from math import inf
from typing import ClassVar, Literal

Reason = Literal[
    "timeout",
    "unreachable",
    "upstream_status",
    "invalid_payload",
    "not_found",
    "circuit_open",
    "overloaded",
]


class Failure(Exception):
    """A call that ended without an answer.

    `detail` goes to clients: it must not name hosts, URLs, headers or bodies. `cause` goes to the
    log: the name of what happened underneath. `retry_after` is in seconds. `retryable` is for
    clients, who may come back at any time; `retry_on` is for us, who would ask again at once: any
    mirror or only another one.
    """

    reason: ClassVar[Reason]
    status: ClassVar[int]
    title: ClassVar[str]
    retryable: bool = True
    retry_on: Literal["any_mirror", "other_mirror", "never"] = "never"

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
    retry_on = "any_mirror"

    def __init__(self, detail: str, *, cause: str | None = None, allotted: float = inf) -> None:
        super().__init__(detail, cause=cause)
        self.allotted = allotted


class Unreachable(Failure):
    reason = "unreachable"
    status = 502
    title = "The upstream could not be reached"
    retry_on = "any_mirror"


class UpstreamStatus(Failure):
    """`retryable` says whether the same question may be answered later: 5xx and 408 only."""

    reason = "upstream_status"
    status = 502
    title = "The upstream answered with an error"

    def __init__(self, code: int, *, retry_after: float | None = None) -> None:
        super().__init__(
            f"the upstream answered {code}", cause=f"HTTP {code}", retry_after=retry_after
        )
        self.retryable = code >= 500 or code == 408
        self.retry_on = "any_mirror" if self.retryable else "never"


class InvalidPayload(Failure):
    reason = "invalid_payload"
    status = 502
    title = "The upstream's answer could not be understood"
    retryable = False
    retry_on = "other_mirror"


class NotFound(Failure):
    reason = "not_found"
    status = 404
    title = "There is no such resource"
    retryable = False


class CircuitOpen(Failure):
    reason = "circuit_open"
    status = 503
    title = "The upstream is resting after too many failures"


class Overloaded(Failure):
    reason = "overloaded"
    status = 503
    title = "There is no capacity for this call right now"


class TooManyRequests(Overloaded):
    """Told apart because asking again is no use for a lack of ours, and may be for theirs."""

    retry_on = "any_mirror"
