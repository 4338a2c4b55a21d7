"""`GET /v1/overviews`: the overviews of many users under the bounds of one request."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.responses import Response

from app.api.dependencies import FanOut, request_context, service_state
from app.api.openapi.responses import BATCH
from app.api.params import (
    Include,
    Require,
    TimeoutMs,
    TimeoutMsHeader,
    UserIds,
    either_timeout,
    parse_sections,
    prefers,
)
from app.api.responses import complete_response, partial_response
from app.composition.batch import BatchLog, batch_item, batch_parts
from app.composition.models import view_models
from app.composition.outcome import Outcome, cached_outcomes, none_within, without_data
from app.composition.result import ViewResult
from app.composition.scheduler import PlanRun, Step, compose
from app.composition.section import FAILED_SIZE
from app.composition.view import Plan
from app.server.answer_memory import LargeAnswer, LargeResponse
from app.server.disconnect import CancelOnDisconnect
from app.server.request_state import RequestState
from app.server.streaming import ClosingStreamingResponse
from app.server.strict_route import StrictRoute
from app.views.overview import overview

NDJSON = "application/x-ndjson"

_router = APIRouter(tags=["Views"], route_class=StrictRoute)


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
    x_request_timeout_ms: TimeoutMsHeader = None,
) -> Response:
    """Overviews of many users, within the deadline and the fan-out of one request.

    An item fails as its overview would have, without effect on the others. With
    `Accept: application/x-ndjson`, each item is a line, sent when it is complete.
    """
    state = service_state(request)
    users = _distinct(user_id, state.settings.batch_max)
    included, required = parse_sections(include, require)

    def plan_of(user: int) -> Plan:
        return overview.plan(user, included, required, state.settings.root_path)

    timeout_ms = either_timeout(timeout_ms, x_request_timeout_ms)
    context = request_context(request, fan_out, timeout_ms, plan_of(users[0]))
    answer = state.answers.begin()
    completed = _completed(
        compose(
            (plan_of(user) for user in users if not answer.full),
            context,
            state.fetch,
            lambda plan: cached_outcomes(plan, context, state.lookup),
            at_once=state.settings.fan_out,
        )
    )
    log = BatchLog(len(users))
    RequestState.of(request.scope).log_fields = log.fields
    if prefers(request, NDJSON):
        return ClosingStreamingResponse(_lines(completed, log), NDJSON, {"Vary": state.vary})
    return await _answer(request, [plan_of(user) for user in users], completed, log, answer)


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


async def _lines(completed: AsyncGenerator[PlanRun], log: BatchLog) -> AsyncGenerator[bytes]:
    async with aclosing(completed):
        async for run in completed:
            result = ViewResult(run.plan, run.outcomes)
            log.add(result)
            yield batch_item(result) + b"\n"


async def _answer(
    request: Request,
    plans: Sequence[Plan],
    completed: AsyncGenerator[PlanRun],
    log: BatchLog,
    answer: LargeAnswer,
) -> Response:
    """All items in one answer. Those for which it has no room fail, the others do not."""
    items: dict[int, bytes] = {}
    outcomes: dict[str, Outcome] = {}
    failed_size = len(plans[0].view.sections) * FAILED_SIZE
    answer.take(len(plans) * failed_size)
    async with CancelOnDisconnect(request.receive), aclosing(completed):
        async for run in completed:
            result = ViewResult(run.plan, run.outcomes)
            item = batch_item(result)
            if answer.take(len(item) - failed_size):
                log.add(result)
                items[run.plan.subject] = item
                for name, outcome in run.outcomes.items():
                    outcomes[f"{run.plan.subject} {name}"] = without_data(outcome)
    for plan in plans:
        if plan.subject not in items:
            result = ViewResult(plan, none_within(plan))
            log.add(result)
            items[plan.subject] = batch_item(result)
    headers = {
        "Vary": service_state(request).vary,
        "X-Complete": "true" if log.complete else "false",
    }
    if log.complete:
        now = asyncio.get_running_loop().time()
        response = complete_response(request, outcomes, headers, now, bytes)
        if response.status_code == 304:
            return response
    else:
        response = partial_response(headers, b"")
    return LargeResponse(response, answer, batch_parts(plans, items, complete=log.complete))
