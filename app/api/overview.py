"""`GET /v1/users/{user_id}/overview`, as JSON or as events."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter

from fastapi import APIRouter, FastAPI, Request
from fastapi.params import Depends
from fastapi.responses import Response

from app.api import sse
from app.api.dependencies import FanOut, fan_out_of, request_context, service_state
from app.api.openapi.responses import OVERVIEW
from app.api.params import (
    Explain,
    Include,
    Require,
    TimeoutMs,
    TimeoutMsHeader,
    UserId,
    either_timeout,
    parse_sections,
    prefers,
)
from app.api.responses import ResponseCache, cache_status, respond, server_timing
from app.call import Context
from app.composition.models import view_models
from app.composition.outcome import Outcomes, cached_outcomes, data_size, within
from app.composition.result import ViewResult
from app.composition.scheduler import compose, gather
from app.composition.section import FAILED_SIZE
from app.composition.timeline import Recorder
from app.composition.view import Plan
from app.server.answer_memory import LargeAnswer, LargeResponse
from app.server.disconnect import CancelOnDisconnect
from app.server.request_state import RequestState
from app.server.streaming import ClosingStreamingResponse
from app.server.strict_route import StrictRoute
from app.views.overview import overview

_COMPLETE = {"complete": True, "failed": {}, "stale": []}
"""The log fields of a complete answer."""

_router = APIRouter(tags=["Views"], route_class=StrictRoute)


def install(app: FastAPI, dependencies: Sequence[Depends] = ()) -> None:
    app.include_router(_router, dependencies=dependencies)


@_router.get(
    overview.path,
    summary="The overview of a user",
    response_model=view_models(overview).answer,
    response_description="The overview, complete or not: each section has its own status",
    responses=OVERVIEW,
)
async def get_overview(
    request: Request,
    fan_out: FanOut,
    user_id: UserId,
    include: Include = None,
    require: Require = None,
    explain: Explain = "false",
    timeout_ms: TimeoutMs = None,
    x_request_timeout_ms: TimeoutMsHeader = None,
) -> Response:
    """User, posts and todos, fetched concurrently and answered before the deadline.

    A section that could not be fetched is `failed` and says why, without effect on the others. The
    answer as a whole is a problem only if the user does not exist, if every section failed, or if
    one that `require` names did. With `Cache-Control: no-cache` or `no-store`, no stored data are
    used.

    With `Accept: text/event-stream`, each section is an event, sent when it completes. An
    `EventSource` that comes back after the last one gets a 204, which ends it.
    """
    state = service_state(request)
    view_request = ViewRequest(
        plan=overview.plan(user_id, *parse_sections(include, require), state.settings.root_path),
        timeout_ms=either_timeout(timeout_ms, x_request_timeout_ms),
        explain=explain == "true" and state.settings.explain_allowed,
    )
    if not state.settings.demo:  # there, X-Demo-Fault is a parameter that the key does not have
        state.route_cache.add(request.scope, view_request.replay)
    return await view_request.answer(request, fan_out)


@dataclass(slots=True)
class ViewRequest:
    """A request with its parameters read; the route cache replays it for equal requests."""

    plan: Plan
    timeout_ms: int | None
    explain: bool
    _responses: ResponseCache = field(default_factory=ResponseCache)

    async def replay(self, request: Request) -> Response:
        return await self.answer(request, await fan_out_of(request))

    async def answer(self, request: Request, fan_out: asyncio.Semaphore) -> Response:
        arrived = RequestState.of(request.scope).arrived
        recorder = Recorder(self.plan, arrived) if self.explain else None
        context = request_context(request, fan_out, self.timeout_ms, self.plan, recorder)
        if prefers(request, sse.MEDIA_TYPE):
            return self._stream(request, context, recorder)
        return await self._json(request, context, recorder)

    def _stream(self, request: Request, context: Context, recorder: Recorder | None) -> Response:
        if request.headers.get("last-event-id") == sse.DONE_ID:
            return Response(status_code=204)
        state = service_state(request)
        steps = compose(
            [self.plan],
            context,
            state.fetch,
            lambda plan: cached_outcomes(plan, context, state.lookup),
            at_once=len(self.plan.questions),
            heartbeat=sse.HEARTBEAT,
        )
        return ClosingStreamingResponse(
            sse.events(self.plan, steps, RequestState.of(request.scope), recorder),
            sse.MEDIA_TYPE,
            {"Vary": state.vary},
            error_tail=sse.internal_error_event(self.plan),
        )

    async def _json(
        self, request: Request, context: Context, recorder: Recorder | None
    ) -> Response:
        began = perf_counter()
        state, request_state = service_state(request), RequestState.of(request.scope)
        outcomes: Outcomes = cached_outcomes(self.plan, context, state.lookup)
        all_cached = len(outcomes) == len(self.plan.questions)
        if not all_cached:
            async with CancelOnDisconnect(request.receive):
                outcomes = await gather(self.plan, context, state.fetch, outcomes)
        now = asyncio.get_running_loop().time()
        reusable = all_cached and recorder is None
        if reusable and "if-none-match" not in request.headers:
            response = self._responses.get(outcomes, now)
            if response is not None:
                request_state.log_fields = _COMPLETE
                return response
        large: LargeAnswer | None = None
        if data_size(outcomes) > state.answers.small:
            large = state.answers.begin()
            room = large.room - len(outcomes) * FAILED_SIZE
            outcomes = within(self.plan, outcomes, room)
            large.take(data_size(outcomes))
        result = ViewResult(self.plan, outcomes)
        request_state.log_fields = result.log_fields()
        headers = {
            "Vary": state.vary,
            "X-Complete": "true" if result.complete else "false",
            "Cache-Status": cache_status(self.plan, outcomes, now),
            "Server-Timing": server_timing(self.plan, outcomes, perf_counter() - began, now),
        }
        response = respond(request, result, headers, now, recorder.to_json() if recorder else None)
        if large is not None and response.status_code != 304:
            return LargeResponse(response, large, [bytes(response.body)])
        if reusable and result.complete and response.status_code == 200:
            self._responses.put(outcomes, now, response)
        return response
