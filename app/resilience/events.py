"""What the layers emit. Values only: telemetry never touches the core."""

from dataclasses import dataclass

from app.call import Call, Event
from app.errors import Failure, Overloaded
from app.resilience.breaker import State


@dataclass(frozen=True, slots=True)
class BreakerStateChanged(Event):
    upstream: str
    mirror: int
    state: State


@dataclass(frozen=True, slots=True)
class CallEvent(Event):
    """An event of one call, and so of one client request."""

    call: Call


@dataclass(frozen=True, slots=True)
class Reconnected(CallEvent):
    """The mirror closed a kept connection just when the attempt was sent: it was sent once more."""

    mirror: int


@dataclass(frozen=True, slots=True)
class AttemptEnded(CallEvent):
    """One exchange with a mirror is over, well (`failure` is None) or not; `seconds` it took."""

    mirror: int
    seconds: float
    failure: Failure | None


@dataclass(frozen=True, slots=True)
class AttemptCancelled(CallEvent):
    """One exchange was cancelled after `seconds`: a lost race, or nobody waits for it any more."""

    mirror: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrying(CallEvent):
    """The call will be tried again in `seconds`."""

    failure: Failure
    seconds: float


@dataclass(frozen=True, slots=True)
class Hedging(CallEvent):
    """An attempt is late, or a mirror failed: another one goes out beside or after it."""


@dataclass(frozen=True, slots=True)
class BudgetSpent(CallEvent):
    """An extra attempt would have been made, but the upstream's budget is spent."""


@dataclass(frozen=True, slots=True)
class Queued(CallEvent):
    """The call has its permits, after `seconds` of waiting for them."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LeftQueue(CallEvent):
    """The call was cancelled after `seconds` of waiting for its permits."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Shed(CallEvent):
    """There was no permit for the call in `seconds`, or would not have been in time."""

    failure: Overloaded
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Coalesced(CallEvent):
    """The call has shared one that was in flight already, for `seconds`.

    That ended well, or with a `failure`, or (`left`) without this one.
    """

    seconds: float
    failure: Failure | None
    left: bool = False


@dataclass(frozen=True, slots=True)
class ServedFromCache(CallEvent):
    """Without asking: fresh, or (`stale`) while it is asked for again."""

    stale: bool


@dataclass(frozen=True, slots=True)
class ServedStale(CallEvent):
    """Last good data, because the upstream could not be asked: `failure` says why."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class RefreshEnded(CallEvent):
    """What was served stale was asked for again in the background."""

    failure: Failure | None


def emit_to_watcher(event: Event) -> None:
    """Hand the event to whoever watches the request that it is about."""
    if isinstance(event, CallEvent) and event.call.context.watch is not None:
        event.call.context.watch(event)
