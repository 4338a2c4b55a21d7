"""The overview as server-sent events: each section as it lands.

The format is that of the HTML standard (§9.2), written by FastAPI. Folding the events gives the
JSON answer: `done` has what is no section, or the problem that the answer would have been.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel, Field, RootModel

from app.api.problems import OverviewFailed, Problem, UserNotFound, problem_json
from app.api.whole import ViewResult
from app.views.compose import Step
from app.views.overview import PostsSection, TodosSection, UserSection, render_section
from app.views.plan import Outcomes, Plan
from app.views.section import SKIPPED
from app.views.timeline import Recorder, Timeline

MEDIA_TYPE = "text/event-stream"

HEARTBEAT = 1.0
"""Seconds of silence before a comment tells client and proxies that somebody is still there."""


class UserLanded(BaseModel):
    name: Literal["user"]
    section: UserSection


class PostsLanded(BaseModel):
    name: Literal["posts"]
    section: PostsSection


class TodosLanded(BaseModel):
    name: Literal["todos"]
    section: TodosSection


class SectionEvent(RootModel[UserLanded | PostsLanded | TodosLanded]):
    """The data of `event: section`."""

    root: Annotated[UserLanded | PostsLanded | TodosLanded, Field(discriminator="name")]


class DoneEvent(BaseModel):
    """The data of `event: done`, the last one."""

    user_id: int
    complete: bool
    status: Annotated[int, Field(description="What the JSON answer would have had")]
    error: Annotated[
        OverviewFailed | UserNotFound | Problem | None,
        Field(description="The problem that the JSON answer would have been, if it is one"),
    ] = None
    timeline: Timeline = None


async def events(
    request: Request,
    plan: Plan,
    steps: AsyncGenerator[Step | None],
    recorder: Recorder | None,
) -> AsyncGenerator[bytes]:
    """All events of a plan whose `steps` are still to come."""
    outcomes: Outcomes = {}
    request.scope["log"] = {"complete": False}  # if it breaks off
    not_wanted = [name for name in plan.sections if name not in plan.questions]
    if not_wanted:
        yield b"".join(_landed(name, SKIPPED) for name in not_wanted)
    async with aclosing(steps):
        async for step in steps:
            if step is None:
                yield KEEPALIVE_COMMENT
            elif step.completed:
                outcomes = step.run.outcomes
                yield b"".join(
                    _landed(name, render_section(plan, name, outcomes[name]))
                    for name in step.completed
                )
    result = ViewResult(plan, outcomes)
    request.scope["log"] = result.for_the_log()
    timeline = recorder.to_json() if recorder else None
    given_up = [_landed(name, SKIPPED) for name in plan.questions if name not in outcomes]
    done = (
        _done(plan, complete=result.complete, status=200, timeline=timeline)
        if result.failure is None
        else _done(plan, complete=False, status=result.status, error=result.body(timeline))
    )
    yield b"".join([*given_up, done])


def internal_error_event(plan: Plan) -> bytes:
    """The last event, if a bug of ours ends the others: the 500 that JSON would have been."""
    error = problem_json("internal_error", "this service made a mistake")
    return _done(plan, complete=False, status=500, error=error)


def _landed(name: str, section: bytes) -> bytes:
    data = f'{{"name":"{name}","section":{section.decode()}}}'
    return format_sse_event(event="section", data_str=data)


def _done(
    plan: Plan,
    *,
    complete: bool,
    status: int,
    error: bytes | None = None,
    timeline: bytes | None = None,
) -> bytes:
    members = [
        b'"user_id":%d' % plan.subject,
        b'"complete":%b' % (b"true" if complete else b"false"),
        b'"status":%d' % status,
    ]
    if error is not None:
        members.append(b'"error":' + error)
    if timeline is not None:
        members.append(b'"timeline":' + timeline)
    return format_sse_event(event="done", data_str=(b"{%b}" % b",".join(members)).decode())
