"""The recorder: the events of the layers become the spans of a timeline."""

import asyncio
import json
from typing import Any

import pytest

from app.call import Call, Data, Event, Question
from app.composition.timeline import Recorder, Span
from app.composition.view import Plan
from app.errors import Overloaded, Timeout, Unreachable
from app.resilience.events import (
    AttemptCancelled,
    AttemptEnded,
    BudgetSpent,
    Coalesced,
    Hedging,
    LeftQueue,
    Queued,
    RefreshEnded,
    Retrying,
    ServedFromCache,
    ServedStale,
    Shed,
)
from tests.fakes import A_VIEW, a_context

pytestmark = pytest.mark.anyio

UNREACHABLE, TIMEOUT, OVERLOADED = Unreachable("broken"), Timeout("late"), Overloaded("full")

QUESTIONS = {name: Question(f"{name} upstream", "/", Data) for name in ("user", "posts")}
PLAN = Plan(A_VIEW, 1, QUESTIONS, frozenset())
CALL = Call(QUESTIONS["posts"], a_context())


def spans(recorder: Recorder) -> list[dict[str, Any]]:
    timeline = json.loads(recorder.to_json())
    assert [Span.model_validate(span).model_dump() for span in timeline] == timeline
    return list(timeline)


@pytest.mark.parametrize(
    ("event", "span"),
    [
        (AttemptEnded(CALL, 0, 0.5, None), ("attempt", 0, 1000, 1500, "ok")),
        (AttemptEnded(CALL, 2, 0.5, TIMEOUT), ("attempt", 2, 1000, 1500, "timeout")),
        (AttemptCancelled(CALL, 1, 0.25), ("attempt", 1, 1250, 1500, "cancelled")),
        (Queued(CALL, 0.75), ("queue", None, 750, 1500, "ok")),
        (Shed(CALL, OVERLOADED, 0.75), ("queue", None, 750, 1500, "overloaded")),
        (Shed(CALL, OVERLOADED), ("queue", None, 1500, 1500, "overloaded")),
        (LeftQueue(CALL, 0.75), ("queue", None, 750, 1500, "cancelled")),
        (Coalesced(CALL, 1.0, None), ("shared", None, 500, 1500, "ok")),
        (Coalesced(CALL, 1.0, TIMEOUT), ("shared", None, 500, 1500, "timeout")),
        (Coalesced(CALL, 1.0, None, left=True), ("shared", None, 500, 1500, "cancelled")),
        (Retrying(CALL, UNREACHABLE, 0.1), ("backoff", None, 1500, 1600, "unreachable")),
        (Hedging(CALL), ("hedge", None, 1500, 1500, None)),
        (ServedFromCache(CALL, stale=False), ("cache", None, 1500, 1500, "hit")),
        (ServedFromCache(CALL, stale=True), ("cache", None, 1500, 1500, "revalidating")),
        (ServedStale(CALL, TIMEOUT), ("cache", None, 1500, 1500, "stale")),
        (BudgetSpent(CALL), None),
        (RefreshEnded(CALL, UNREACHABLE), None),
    ],
)
async def test_each_event_is_a_span_in_milliseconds_since_the_request_arrived(
    event: Event, span: tuple[object, ...] | None
) -> None:
    await asyncio.sleep(10)
    recorder = Recorder(PLAN, arrived=8.5)
    recorder(event)
    await asyncio.sleep(1)
    keys = ("kind", "mirror", "start_ms", "end_ms", "outcome")
    expected = [] if span is None else [{"section": "posts", **dict(zip(keys, span, strict=True))}]
    assert spans(recorder) == expected


async def test_no_span_ends_after_the_answer() -> None:
    """A backoff is recorded when it starts, and may be cut short."""
    recorder = Recorder(PLAN, arrived=0)
    recorder(Retrying(CALL, UNREACHABLE, 5.0))
    await asyncio.sleep(1)
    (span,) = spans(recorder)
    assert span["end_ms"] == 1000


async def test_spans_are_sorted_by_their_start() -> None:
    recorder = Recorder(PLAN, arrived=0)
    await asyncio.sleep(1)
    user = Call(QUESTIONS["user"], a_context())
    for event in (
        AttemptEnded(CALL, 0, 0.4, None),
        AttemptCancelled(user, 1, 0.2),
        Retrying(CALL, UNREACHABLE, 0.1),
        Queued(user, 0.9),
        AttemptEnded(user, 0, 0.30004, TIMEOUT),
    ):
        recorder(event)
    assert [(span["section"], span["kind"], span["start_ms"]) for span in spans(recorder)] == [
        ("user", "queue", 100.0),
        ("posts", "attempt", 600.0),
        ("user", "attempt", 700.0),
        ("user", "attempt", 800.0),
        ("posts", "backoff", 1000.0),
    ]
