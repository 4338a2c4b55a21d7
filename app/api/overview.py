"""`GET /v1/users/{user_id}/overview`."""

import asyncio
from collections.abc import Collection
from math import ceil
from time import perf_counter
from typing import Annotated, get_args

from fastapi import APIRouter, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BeforeValidator, Field

from app.api import caching, examples
from app.api.dependencies import FanOut, Number, TimeoutMs, context, service
from app.api.dependencies import fan_out as fan_out_of
from app.api.hangup import HangUp
from app.api.problems import problem
from app.api.written import Written
from app.errors import Failure, NotFound
from app.sources.resource import Id
from app.views.overview import (
    Overview,
    SectionName,
    overview,
    overview_json,
    section_json,
)
from app.views.plan import Outcomes, Plan, failures, gather, is_complete, look, stale, verdict


def _split(value: object) -> object:
    """`include=posts,todos` and `include=posts&include=todos` are the same."""
    if isinstance(value, list):
        return [part for text in value for part in str(text).split(",")]
    return value


UserId = Annotated[Id, Number, Path(description="Whose overview")]
Names = Annotated[list[SectionName], BeforeValidator(_split), Field(min_length=1)] | None

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
    include: Annotated[
        Names, Query(description="The sections wanted, repeated or comma separated; default: all")
    ] = None,
    require: Annotated[
        Names, Query(description="Sections without which the answer is worthless; default: none")
    ] = None,
    timeout_ms: TimeoutMs = None,
) -> Response:
    """User, posts and todos, asked for at once and answered before the deadline.

    A section that could not be had is `failed` and says why; the others are not touched by it.
    Only when nothing is left to tell, or what `require` names is missing, the whole is a problem.
    With `Cache-Control: no-cache` or `no-store`, the upstreams are asked whatever is stored.
    """
    plan = overview(user_id, *_chosen(include, require))
    serving = service(request)

    async def repeat(request: Request) -> Response:
        return await _answer(request, await fan_out_of(request), plan, timeout_ms, written)

    written = Written()
    if not serving.settings.demo:  # whose faults are another parameter
        serving.remembered.add(request.scope, repeat)
    return await _answer(request, fan_out, plan, timeout_ms, written)


async def _answer(
    request: Request,
    fan_out: asyncio.Semaphore,
    plan: Plan,
    timeout_ms: int | None,
    written: Written,
) -> Response:
    began = perf_counter()
    serving = service(request)
    asking = context(request, fan_out, timeout_ms, plan)
    outcomes: Outcomes = look(plan, asking, serving.look)
    all_found = len(outcomes) == len(plan.questions)
    if not all_found:
        async with HangUp(request.receive):
            outcomes = await gather(plan, asking, serving.fetch, outcomes)
    now = asyncio.get_running_loop().time()
    if all_found and "if-none-match" not in request.headers:
        response = written.again(outcomes, now)
        if response is not None:
            request.scope["log"] = _ALL_IS_WELL
            return response
    complete = is_complete(plan, outcomes)
    request.scope["log"] = {
        "complete": complete,
        "failed": {name: failure.reason for name, failure in failures(plan, outcomes)},
        "stale": stale(outcomes),
    }
    headers = {
        "Vary": serving.vary,
        "X-Complete": "true" if complete else "false",
        "Cache-Status": caching.cache_status(plan, outcomes, now),
        "Server-Timing": caching.server_timing(plan, outcomes, perf_counter() - began, now),
    }
    decisive = verdict(plan, outcomes)
    if decisive is not None:
        return _failed(request, plan, outcomes, decisive, headers)
    if not complete:
        headers["Cache-Control"] = "no-store"
    else:
        headers["Cache-Control"] = caching.cache_control(outcomes, now)
        headers["ETag"] = tag = caching.etag(outcomes)
        if caching.matches(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
    body = overview_json(plan, complete, section_json(plan, outcomes))
    response = Response(body, headers=headers, media_type="application/json")
    if all_found and complete:
        written.keep(outcomes, now, response)
    return response


def _chosen(
    include: list[SectionName] | None, require: list[SectionName] | None
) -> tuple[Collection[SectionName], Collection[SectionName]]:
    wanted = include or get_args(SectionName)
    for name in require or ():
        if name not in wanted:
            raise RequestValidationError(
                [{"loc": ("query", "require"), "msg": f"{name} is required but not included"}]
            )
    return wanted, require or ()


def _failed(
    request: Request,
    plan: Plan,
    outcomes: Outcomes,
    decisive: Failure,
    headers: dict[str, str],
) -> Response:
    failed = dict(failures(plan, outcomes))
    detail = "; ".join(f"{name}: {failure.detail}" for name, failure in failed.items())
    if decisive.status == 503:  # by then, all that asked for patience have had it
        after = max(failure.retry_after or 1 for failure in failed.values())
        headers["Retry-After"] = str(ceil(after))
    return problem(
        decisive.reason,
        detail,
        instance=request.url.path,
        headers=headers,
        sections=None if isinstance(decisive, NotFound) else section_json(plan, outcomes),
    )
