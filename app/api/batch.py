"""`GET /v1/overviews`: the overviews of many users under the bounds of one request."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field, RootModel

from app.api import caching, examples
from app.api.choice import Include, Require, parse_sections
from app.api.dependencies import FanOut, PlainDigits, TimeoutMs, request_context, service
from app.api.hangup import CancelOnDisconnect
from app.api.negotiation import prefers
from app.api.problems import OverviewFailed, UserNotFound
from app.api.streaming import ClosingStreamingResponse
from app.api.whole import ViewResult
from app.sources.resource import Id
from app.views.compose import PlanRun, Step, compose
from app.views.overview import Overview, overview
from app.views.plan import Outcome

PATH = "/v1/overviews"
NDJSON = "application/x-ndjson"


class ItemOk(BaseModel):
    """One user's overview, complete or not."""

    user_id: Id
    status: Literal["ok"]
    overview: Overview


class ItemFailed(BaseModel):
    """The problem that this user's overview would have been on its own."""

    user_id: Id
    status: Literal["failed"]
    error: OverviewFailed | UserNotFound


class BatchItem(RootModel[ItemOk | ItemFailed]):
    """What became of one user's overview."""

    root: Annotated[ItemOk | ItemFailed, Field(discriminator="status")]


class Batch(BaseModel):
    """Many overviews, in the order in which they were asked for."""

    complete: Annotated[bool, Field(description="Every item is ok, and complete")]
    items: list[BatchItem]


Log = dict[str, Any]

router = APIRouter(tags=["Views"])


@router.get(
    PATH,
    summary="The overviews of many users",
    response_model=Batch,
    response_description="An item for each user, in the order asked for",
    responses=examples.BATCH,
)
async def get_overviews(
    request: Request,
    fan_out: FanOut,
    user_id: Annotated[
        list[Annotated[Id, PlainDigits]],
        Query(description="Whose overviews, repeated; at most `BATCH_MAX` different ones"),
    ],
    include: Include = None,
    require: Require = None,
    timeout_ms: TimeoutMs = None,
) -> Response:
    """The same as one overview each, at the cost of one request: one deadline, one fan-out.

    An item fails as its overview would have, and the others are not touched by it. With
    `Accept: application/x-ndjson`, the items come one a line, each when it is complete.
    """
    state = service(request)
    users = _distinct(user_id, state.settings.batch_max)
    wanted, required = parse_sections(include, require)
    context = request_context(request, fan_out, timeout_ms, overview(users[0], wanted, required))
    composed = _composed(
        compose(
            (overview(user, wanted, required) for user in users),
            context,
            state.fetch,
            state.found(context),
            at_once=state.settings.fan_out,
        )
    )
    if prefers(request, NDJSON):
        lines = _lines(_begin_log(request, users), composed)
        return ClosingStreamingResponse(lines, NDJSON, {"Vary": state.vary})
    return await _answer(request, users, composed)


def _distinct(users: Sequence[int], most: int) -> list[int]:
    """Each once, where it is named first."""
    distinct = list(dict.fromkeys(users))
    if len(distinct) > most:
        message = f"at most {most} different users, not {len(distinct)}"
        raise RequestValidationError([{"loc": ("query", "user_id"), "msg": message}])
    return distinct


async def _composed(steps: AsyncGenerator[Step | None]) -> AsyncGenerator[PlanRun]:
    """Each plan when it is over."""
    async with aclosing(steps):
        async for step in steps:
            if step is not None and step.last:
                yield step.run
                await asyncio.sleep(0)  # what is all stored must not hold up other requests


async def _lines(log: Log, composed: AsyncGenerator[PlanRun]) -> AsyncGenerator[bytes]:
    async with aclosing(composed):
        async for one in composed:
            yield _item(one, log) + b"\n"


async def _answer(
    request: Request, users: Sequence[int], composed: AsyncGenerator[PlanRun]
) -> Response:
    log = _begin_log(request, users)
    items: dict[int, bytes] = {}
    outcomes: dict[str, Outcome] = {}
    async with CancelOnDisconnect(request.receive), aclosing(composed):
        async for one in composed:
            user = one.plan.subject
            items[user] = _item(one, log)
            outcomes |= {f"{user} {name}": outcome for name, outcome in one.outcomes.items()}
    complete = b"true" if log["complete"] else b"false"
    headers = {"Vary": service(request).vary, "X-Complete": complete.decode()}
    if not log["complete"]:
        headers["Cache-Control"] = "no-store"
    else:
        now = asyncio.get_running_loop().time()
        headers["Cache-Control"] = caching.cache_control(outcomes, now)
        headers["ETag"] = tag = caching.etag(outcomes)
        if caching.matches(request.headers.getlist("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
    told = b",".join(items[user] for user in users)
    body = b'{"complete":%b,"items":[%b]}' % (complete, told)
    return Response(body, headers=headers, media_type="application/json")


def _begin_log(request: Request, users: Sequence[int]) -> Log:
    """What the log will say, true at any time, because it may break off at any time.

    `partial` counts items that are not complete, `failed` reasons by section.
    """
    log: Log = {"complete": False, "users": len(users), "items": 0, "partial": 0, "failed": {}}
    request.scope["log"] = log
    return log


def _item(run: PlanRun, log: Log) -> bytes:
    """One item as JSON, and in the log."""
    result = ViewResult(run.plan, run.outcomes)
    log["items"] += 1
    log["partial"] += not result.complete
    log["complete"] = log["items"] == log["users"] and not log["partial"]
    for name, reason in result.for_the_log()["failed"].items():
        log["failed"].setdefault(name, Counter())[reason] += 1
    status, member = (b"ok", b"overview") if result.failure is None else (b"failed", b"error")
    user = run.plan.subject
    return b'{"user_id":%d,"status":"%b","%b":%b}' % (user, status, member, result.body())
