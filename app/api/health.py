"""The probes: liveness at `/livez`, readiness at `/readyz`."""

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from app.api.dependencies import service_state
from app.problems.responses import Problem, problem
from app.resilience.breaker import State
from app.resilience.pipeline import Upstream

_router = APIRouter(tags=["Health"])


def install(app: FastAPI) -> None:
    app.include_router(_router)


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Permits(BaseModel):
    """The permits for attempts in flight; `limit` adapts to the latency, up to `ceiling`."""

    in_use: int
    limit: int
    ceiling: int
    queued: Annotated[int, Field(description="Calls that wait for a permit")]


class LatencyMs(BaseModel):
    """Percentiles of the last attempts, in milliseconds; null until there were enough."""

    p50: float | None
    p95: float | None


class MirrorHealth(BaseModel):
    """One of an upstream's URLs, in their order."""

    breaker: State
    retry_after: Annotated[
        float | None, Field(description="Seconds until an open breaker lets a probe through")
    ]


class UpstreamHealth(BaseModel):
    """How an upstream is doing, as far as this process has seen."""

    permits: Permits
    latency_ms: LatencyMs
    budget: Annotated[
        float,
        Field(description="The balance of the retry budget: retries, hedges and refreshes left"),
    ]
    mirrors: list[MirrorHealth]


class Readiness(BaseModel):
    status: Literal["ready"]
    upstreams: Annotated[
        dict[str, UpstreamHealth] | None, Field(description="With `verbose` only")
    ] = None


@_router.get("/livez", summary="Is the process alive?", response_description="It is")
async def livez() -> Alive:
    """Never depends on an upstream: restarting us would not help."""
    return Alive()


@_router.get(
    "/readyz",
    summary="Does the service want traffic?",
    response_model=Readiness,
    response_model_exclude_unset=True,
    response_description="It does",
    responses={503: {"model": Problem, "description": "It is draining, and about to stop"}},
)
async def readyz(
    request: Request,
    response: Response,
    verbose: Annotated[
        Literal["true", "false"],
        BeforeValidator(lambda text: text or "true"),
        Query(description="`?verbose` lists every upstream"),
    ] = "false",
) -> Readiness | Response:
    """503 after a stop signal: answers in flight are finished, new requests go elsewhere."""
    state = service_state(request)
    if state.draining:
        return problem(
            "draining",
            "answers in flight are finished",
            root_path=state.settings.root_path,
            headers={"Retry-After": "1"},
        )
    response.headers["Cache-Control"] = "no-store"
    if verbose == "false":
        return Readiness(status="ready")
    return Readiness(
        status="ready",
        upstreams={
            name: _health(upstream, asyncio.get_running_loop().time())
            for name, upstream in state.upstreams.items()
        },
    )


def _health(upstream: Upstream, now: float) -> UpstreamHealth:
    bulkhead, latency = upstream.bulkhead, upstream.latency
    return UpstreamHealth(
        permits=Permits(
            in_use=bulkhead.in_flight,
            limit=bulkhead.limit.limit,
            ceiling=bulkhead.limit.ceiling,
            queued=bulkhead.queued,
        ),
        latency_ms=LatencyMs(p50=_ms(latency.p50), p95=_ms(latency.p95)),
        budget=round(upstream.budget.balance, 1),
        mirrors=[
            MirrorHealth(
                breaker=breaker.state(now),
                retry_after=None
                if breaker.state(now) == "closed"
                else round(breaker.retry_after(now), 3),
            )
            for breaker in upstream.breakers
        ],
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
