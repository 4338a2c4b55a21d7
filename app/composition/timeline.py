"""The timeline of an answer (`?explain=true`): what was done for it, and when."""

import asyncio
from typing import Annotated, Literal

from pydantic import BaseModel, Field
from pydantic_core import to_json as dump_json

from app.call import Call, Event
from app.composition.view import Plan
from app.errors import Reason
from app.resilience.events import (
    AttemptCancelled,
    AttemptEnded,
    Coalesced,
    Hedging,
    LeftQueue,
    Queued,
    Reconnected,
    Retrying,
    ServedFromCache,
    ServedStale,
    Shed,
)

Kind = Literal["attempt", "queue", "backoff", "hedge", "cache", "shared", "reconnect"]
SpanOutcome = Reason | Literal["ok", "cancelled", "hit", "revalidating", "stale"] | None


class Span(BaseModel):
    """Something that was done for a section, in milliseconds since the request arrived.

    `attempt`: one exchange with one mirror. `queue`: waiting for a permit. `backoff`: waiting
    before a retry, for the reason that `outcome` has. `hedge`: the moment when another attempt was
    called for. `cache`: the moment when something stored was used. `shared`: the call of another
    request was in flight already, and this one joined it. `reconnect`: the moment when an attempt
    was sent once more, because a mirror closed a kept connection just then.
    """

    section: str
    kind: Kind
    mirror: Annotated[
        int | None, Field(description="Which of the upstream's URLs; null where it is about none")
    ]
    start_ms: float
    end_ms: float
    outcome: Annotated[SpanOutcome, Field(description="How it ended; null where nothing can end")]


Timeline = Annotated[
    list[Span] | None, Field(description="With `explain` only, where the service allows it")
]


class Recorder:
    """An `Emit` that watches one request, which `arrived` at an instant of the loop's clock."""

    def __init__(self, plan: Plan, arrived: float) -> None:
        self._sections = {question: name for name, question in plan.questions.items()}
        self._arrived = arrived
        self._time = asyncio.get_running_loop().time
        self._spans: list[Span] = []

    def __call__(self, event: Event) -> None:
        match event:
            case AttemptEnded(call, mirror, seconds, failure):
                self._add(call, "attempt", -seconds, failure.reason if failure else "ok", mirror)
            case AttemptCancelled(call, mirror, seconds):
                self._add(call, "attempt", -seconds, "cancelled", mirror)
            case Queued(call, seconds):
                self._add(call, "queue", -seconds, "ok")
            case Shed(call, failure, seconds):
                self._add(call, "queue", -seconds, failure.reason)
            case Retrying(call, failure, seconds):
                self._add(call, "backoff", seconds, failure.reason)
            case Reconnected(call, mirror):
                self._add(call, "reconnect", 0, None, mirror)
            case Hedging(call):
                self._add(call, "hedge", 0, None)
            case ServedFromCache(call, stale):
                self._add(call, "cache", 0, "revalidating" if stale else "hit")
            case ServedStale(call):
                self._add(call, "cache", 0, "stale")
            case LeftQueue(call, seconds):
                self._add(call, "queue", -seconds, "cancelled")
            case Coalesced(call, seconds, failure, left):
                ended: SpanOutcome = "cancelled" if left else "ok"
                self._add(call, "shared", -seconds, failure.reason if failure else ended)

    def to_json(self) -> bytes:
        """All spans up to now as JSON, the first to begin first."""
        now_ms = self._ms(self._time())
        for span in self._spans:  # a backoff may have been cut short
            span.end_ms = min(span.end_ms, now_ms)
        return dump_json(sorted(self._spans, key=lambda span: span.start_ms))

    def _add(
        self,
        call: Call,
        kind: Kind,
        seconds: float,
        outcome: SpanOutcome,
        mirror: int | None = None,
    ) -> None:
        """`seconds` from now, or up to now if they are negative."""
        now = self._time()
        start, end = sorted((now, now + seconds))
        self._spans.append(
            Span(
                section=self._sections[call.question],
                kind=kind,
                mirror=mirror,
                start_ms=self._ms(start),
                end_ms=self._ms(end),
                outcome=outcome,
            )
        )

    def _ms(self, instant: float) -> float:
        # Not below 0: the loop's clock has whole milliseconds, durations are more exact.
        return max(round((instant - self._arrived) * 1000, 1), 0.0)
