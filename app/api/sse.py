"""A view as server-sent events: each section as it completes.

The format is that of the HTML standard (§9.2), written by FastAPI. Together, the events have what
the JSON answer has: `done` has its other members, or the problem that it would have been.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from app.composition.outcome import Outcomes
from app.composition.result import ViewResult
from app.composition.scheduler import Step
from app.composition.section import SKIPPED, render_section
from app.composition.timeline import Recorder
from app.composition.view import Plan
from app.json_bytes import json_bool, json_object, json_text
from app.problems.responses import problem_json
from app.server.request_state import RequestState

MEDIA_TYPE = "text/event-stream"

DONE_ID = "done"
"""The id of the last event: an `EventSource` that reconnects after it says so, and is told to stop
(HTML standard §9.2.4)."""

_RETRY = b"retry: 3000\n"
"""Milliseconds before it reconnects after a broken stream. Told once, with whatever comes first."""

HEARTBEAT = 1.0
"""Seconds of silence before a comment shows client and proxies that the connection is alive."""


async def events(
    plan: Plan,
    steps: AsyncGenerator[Step | None],
    request_state: RequestState,
    recorder: Recorder | None,
) -> AsyncGenerator[bytes]:
    """All events of an answer; `steps` are those of its plan."""
    outcomes: Outcomes = {}
    request_state.log_fields = {"complete": False}
    retry = _RETRY
    excluded = [name for name in plan.view.sections if name not in plan.questions]
    if excluded:
        yield retry + b"".join(_section_event(name, SKIPPED) for name in excluded)
        retry = b""
    async with aclosing(steps):
        async for step in steps:
            if step is None:
                yield retry + KEEPALIVE_COMMENT
                retry = b""
            elif step.completed:
                outcomes = step.run.outcomes
                yield retry + b"".join(
                    _section_event(name, render_section(name, outcomes[name], plan))
                    for name in step.completed
                )
                retry = b""
    result = ViewResult(plan, outcomes)
    request_state.log_fields = result.log_fields()
    timeline = recorder.to_json() if recorder else None
    cancelled = [_section_event(name, SKIPPED) for name in plan.questions if name not in outcomes]
    yield b"".join([*cancelled, _done_event(result, timeline)])


def internal_error_event(plan: Plan) -> bytes:
    """The last event if a bug of ours ends the stream: the 500 that the JSON answer would be."""
    error = problem_json("internal_error", "this service made a mistake", root_path=plan.root_path)
    return _done(plan, complete=False, status=500, more={"error": error})


def _section_event(name: str, section: bytes) -> bytes:
    data = json_object({"name": json_text(name), "section": section})
    return format_sse_event(event="section", data_str=data.decode())


def _done_event(result: ViewResult, timeline: bytes | None) -> bytes:
    if result.failure is not None:
        error = {"error": result.to_json(timeline)}
        return _done(result.plan, complete=False, status=result.status, more=error)
    more = {} if timeline is None else {"timeline": timeline}
    return _done(result.plan, complete=result.complete, status=200, more=more)


def _done(plan: Plan, *, complete: bool, status: int, more: dict[str, bytes]) -> bytes:
    data = json_object(
        {
            plan.view.identifier: b"%d" % plan.subject,
            "complete": json_bool(complete),
            "status": b"%d" % status,
            **more,
        }
    )
    return format_sse_event(event="done", data_str=data.decode(), id=DONE_ID)
