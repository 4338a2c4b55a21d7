"""What the layers tell to whoever watches. Values only: telemetry never touches the core."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from app.errors import Failure, Overloaded
from app.resilience.call import Call


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """One exchange with a mirror is over, well (`failure` is None) or not; `seconds` it took."""

    call: Call
    mirror: int
    seconds: float
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class AttemptCancelled:
    """One exchange was given up after `seconds`: a lost race, or nobody wants it any more."""

    call: Call
    mirror: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrying:
    """The call will be tried again in `seconds`."""

    call: Call
    failure: Failure
    seconds: float


@dataclass(frozen=True, slots=True)
class Hedging:
    """An attempt is late, or a mirror failed: another one goes out beside or after it."""

    call: Call


@dataclass(frozen=True, slots=True)
class BudgetSpent:
    """An extra attempt would have been made, but the upstream's budget is spent."""

    call: Call


@dataclass(frozen=True, slots=True)
class BreakerStateChanged:
    upstream: str
    mirror: int
    state: Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Queued:
    """The call has its permits, after `seconds` of waiting for them."""

    call: Call
    seconds: float


@dataclass(frozen=True, slots=True)
class LeftQueue:
    """Nobody wants the call any more, after `seconds` of waiting for its permits."""

    call: Call
    seconds: float


@dataclass(frozen=True, slots=True)
class Shed:
    """There was no permit for the call in `seconds`, or would not have been in time."""

    call: Call
    failure: Overloaded
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Coalesced:
    """The call has shared one that was in flight already, for `seconds`.

    That ended well, or with a `failure`, or (`left`) without this one.
    """

    call: Call
    seconds: float
    failure: Failure | None
    left: bool = False


@dataclass(frozen=True, slots=True)
class ServedFromCache:
    """Without asking: fresh, or (`stale`) while somebody asks again."""

    call: Call
    stale: bool


@dataclass(frozen=True, slots=True)
class ServedStale:
    """Last good data, because the upstream could not be asked: `failure` says why."""

    call: Call
    failure: Failure


@dataclass(frozen=True, slots=True)
class RefreshEnded:
    """What was served stale was asked for again in the background."""

    call: Call
    failure: Failure | None


Event = (
    AttemptEnded
    | AttemptCancelled
    | Retrying
    | Hedging
    | BudgetSpent
    | BreakerStateChanged
    | Queued
    | LeftQueue
    | Shed
    | Coalesced
    | ServedFromCache
    | ServedStale
    | RefreshEnded
)
Emit = Callable[[Event], None]


def to_watcher(event: Event) -> None:
    """Tell whoever watches the request that the event is about."""
    if not isinstance(event, BreakerStateChanged) and event.call.context.watch is not None:
        event.call.context.watch(event)
