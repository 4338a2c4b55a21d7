"""`GET /v1/users/{user_id}/overview`."""

import asyncio
from time import perf_counter
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from app.api import caching, events, examples
from app.api.choice import Include, Require, parse_sections
from app.api.dependencies import FanOut, PlainDigits, TimeoutMs, request_context, service
from app.api.dependencies import fan_out as fan_out_of
from app.api.hangup import CancelOnDisconnect
from app.api.negotiation import prefers
from app.api.problems import respond
from app.api.streaming import ClosingStreamingResponse
from app.api.whole import ViewResult
from app.api.written import ResponseCache
from app.resilience.call import Context
from app.sources.resource import Id
from app.views.compose import compose, gather
from app.views.overview import Overview, overview
from app.views.plan import Outcomes, Plan
from app.views.timeline import Recorder

UserId = Annotated[Id, PlainDigits, Path(description="Whose overview")]

PATH = "/v1/users/{user_id}/overview"

_ALL_IS_WELL = {"complete": True, "failed": {}, "stale": []}
"""What the log says of such an answer."""

router = APIRouter(tags=["Views"])


@router.get(
    PATH,
    summary="The overview of a user",
    response_model=Overview,
    response_description="The overview, complete or not: every section says for itself",
    responses=examples.OVERVIEW,
)
async def get_overview(
    request: Request,
    fan_out: FanOut,
    user_id: UserId,
    include: Include = None,
    require: Require = None,
    explain: Annotated[
        Literal["true", "false"],
        Query(description="Tell in `timeline` what was done, where the service allows it"),
    ] = "false",
    timeout_ms: TimeoutMs = None,
) -> Response:
    """User, posts and todos, asked for at once and answered before the deadline.

    A section that could not be had is `failed` and says why; the others are not touched by it.
    Only when nothing is left to tell, or what `require` names is missing, the whole is a problem.
    With `Cache-Control: no-cache` or `no-store`, the upstreams are asked whatever is stored.

    With `Accept: text/event-stream`, each section comes as an event when it lands.
    """
    plan = overview(user_id, *parse_sections(include, require))
    state = service(request)
    explains = explain == "true" and state.settings.explains
    responses = ResponseCache()

    async def answer(request: Request, fan_out: asyncio.Semaphore) -> Response:
        recorder = Recorder(plan, request.scope["arrived"]) if explains else None
        context = request_context(request, fan_out, timeout_ms, plan, recorder)
        if prefers(request, events.MEDIA_TYPE):
            return _stream(request, plan, context, recorder)
        return await _answer(request, plan, context, recorder, responses)

    async def replay(request: Request) -> Response:
        return await answer(request, await fan_out_of(request))

    if not state.settings.demo:  # whose faults are another parameter
        state.route_cache.add(request.scope, replay)
    return await answer(request, fan_out)


def _stream(
    request: Request, plan: Plan, context: Context, recorder: Recorder | None
) -> ClosingStreamingResponse:
    state = service(request)
    steps = compose(
        [plan],
        context,
        state.fetch,
        state.found(context),
        at_once=len(plan.questions),
        heartbeat=events.HEARTBEAT,
    )
    return ClosingStreamingResponse(
        events.events(request, plan, steps, recorder),
        events.MEDIA_TYPE,
        {"Vary": state.vary},
        error_tail=events.internal_error_event(plan),
    )


async def _answer(
    request: Request,
    plan: Plan,
    context: Context,
    recorder: Recorder | None,
    responses: ResponseCache,
) -> Response:
    began = perf_counter()
    state = service(request)
    outcomes: Outcomes = state.found(context)(plan)
    all_found = len(outcomes) == len(plan.questions)
    if not all_found:
        async with CancelOnDisconnect(request.receive):
            outcomes = await gather(plan, context, state.fetch, outcomes)
    now = asyncio.get_running_loop().time()
    rewritable = all_found and recorder is None
    if rewritable and "if-none-match" not in request.headers:
        response = responses.get(outcomes, now)
        if response is not None:
            request.scope["log"] = _ALL_IS_WELL
            return response
    result = ViewResult(plan, outcomes)
    request.scope["log"] = result.for_the_log()
    headers = {
        "Vary": state.vary,
        "X-Complete": "true" if result.complete else "false",
        "Cache-Status": caching.cache_status(plan, outcomes, now),
        "Server-Timing": caching.server_timing(plan, outcomes, perf_counter() - began, now),
    }
    timeline = recorder.to_json() if recorder else None
    if result.failure is not None:
        if result.retry_after is not None:
            headers["Retry-After"] = str(result.retry_after)
        return respond(result.failure.reason, result.body(timeline), headers)
    if not result.complete or recorder is not None:
        headers["Cache-Control"] = "no-store"
    else:
        headers["Cache-Control"] = caching.cache_control(outcomes, now)
        headers["ETag"] = tag = caching.etag(outcomes)
        if caching.matches(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
    response = Response(result.body(timeline), headers=headers, media_type="application/json")
    if rewritable and result.complete:
        responses.put(outcomes, now, response)
    return response
