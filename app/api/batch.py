"""`GET /v1/overviews`: the overviews of many users under the bounds of one request."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import Response

from app.api.dependencies import FanOut, request_context, service_state
from app.api.openapi.responses import BATCH
from app.api.params import Include, Require, TimeoutMs, UserIds, parse_sections, prefers
from app.api.responses import complete_response, partial_response
from app.composition.models import view_models
from app.composition.outcome import Outcome, cached_outcomes
from app.composition.result import ViewResult
from app.composition.scheduler import PlanRun, Step, compose
from app.composition.view import Plan
from app.json_bytes import json_array, json_bool, json_object, json_text
from app.server.disconnect import CancelOnDisconnect
from app.server.request_state import RequestState
from app.server.streaming import ClosingStreamingResponse
from app.views.overview import overview

NDJSON = "application/x-ndjson"

_router = APIRouter(tags=["Views"])


def install(app: FastAPI, dependencies: Sequence[Depends] = ()) -> None:
    app.include_router(_router, dependencies=dependencies)


@_router.get(
    overview.batch,
    summary="The overviews of many users",
    response_model=view_models(overview).batch,
    response_description="An item for each user, in the order of the request",
    responses=BATCH,
)
async def get_overviews(
    request: Request,
    fan_out: FanOut,
    user_id: UserIds,
    include: Include = None,
    require: Require = None,
    timeout_ms: TimeoutMs = None,
) -> Response:
    """Overviews of many users, within the deadline and the fan-out of one request.

    An item fails as its overview would have, without effect on the others. With
    `Accept: application/x-ndjson`, each item is a line, sent when it is complete.
    """
    state = service_state(request)
    users = _distinct(user_id, state.settings.batch_max)
    included, required = parse_sections(include, require)

    def plan_of(user: int) -> Plan:
        return overview.plan(user, included, required)

    context = request_context(request, fan_out, timeout_ms, plan_of(users[0]))
    completed = _completed(
        compose(
            map(plan_of, users),
            context,
            state.fetch,
            lambda plan: cached_outcomes(plan, context, state.lookup),
            at_once=state.settings.fan_out,
        )
    )
    log = _BatchLog(len(users))
    RequestState.of(request.scope).log_fields = log.fields
    if prefers(request, NDJSON):
        return ClosingStreamingResponse(_lines(completed, log), NDJSON, {"Vary": state.vary})
    return await _answer(request, users, completed, log)


def _distinct(users: Sequence[int], batch_max: int) -> list[int]:
    """Each user once, at its first place."""
    distinct = list(dict.fromkeys(users))
    if len(distinct) > batch_max:
        message = f"at most {batch_max} different users, not {len(distinct)}"
        raise RequestValidationError([{"loc": ("query", "user_id"), "msg": message}])
    return distinct


async def _completed(steps: AsyncGenerator[Step | None]) -> AsyncGenerator[PlanRun]:
    """Each run, as soon as it is complete."""
    async with aclosing(steps):
        async for step in steps:
            if step is not None and step.last:
                yield step.run
                await asyncio.sleep(
                    0
                )  # runs that are all cached do not wait, and would block the loop


class _BatchLog:
    """The log fields of a batch: `partial` counts items that are not complete, `failed` the reasons
    of each section.
    """

    def __init__(self, users: int) -> None:
        self.fields: dict[str, Any] = {
            "complete": False,
            "users": users,
            "items": 0,
            "partial": 0,
            "failed": {},
        }

    @property
    def complete(self) -> bool:
        return bool(self.fields["complete"])

    def add(self, result: ViewResult) -> None:
        fields = self.fields
        fields["items"] += 1
        fields["partial"] += not result.complete
        fields["complete"] = fields["items"] == fields["users"] and not fields["partial"]
        for name, failure in result.failures.items():
            fields["failed"].setdefault(name, Counter())[failure.reason] += 1


async def _lines(completed: AsyncGenerator[PlanRun], log: _BatchLog) -> AsyncGenerator[bytes]:
    async with aclosing(completed):
        async for run in completed:
            yield _item(run, log) + b"\n"


async def _answer(
    request: Request, users: Sequence[int], completed: AsyncGenerator[PlanRun], log: _BatchLog
) -> Response:
    items: dict[int, bytes] = {}
    outcomes: dict[str, Outcome] = {}
    async with CancelOnDisconnect(request.receive), aclosing(completed):
        async for run in completed:
            user = run.plan.subject
            items[user] = _item(run, log)
            outcomes |= {f"{user} {name}": outcome for name, outcome in run.outcomes.items()}

    def body() -> bytes:
        ordered = json_array(items[user] for user in users)
        return json_object({"complete": json_bool(log.complete), "items": ordered})

    headers = {
        "Vary": service_state(request).vary,
        "X-Complete": "true" if log.complete else "false",
    }
    if not log.complete:
        return partial_response(headers, body())
    now = asyncio.get_running_loop().time()
    return complete_response(request, outcomes, headers, now, body)


def _item(run: PlanRun, log: _BatchLog) -> bytes:
    """One item as JSON, and in the log."""
    result = ViewResult(run.plan, run.outcomes)
    log.add(result)
    view = run.plan.view
    status, member = ("ok", view.name) if result.failure is None else ("failed", "error")
    return json_object(
        {
            view.identifier: b"%d" % run.plan.subject,
            "status": json_text(status),
            member: result.to_json(),
        }
    )
