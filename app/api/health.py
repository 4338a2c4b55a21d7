"""Whether the process lives, and whether it wants traffic."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from app.api.dependencies import service
from app.api.problems import Problem, problem

router = APIRouter(tags=["Health"])


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class UpstreamHealth(BaseModel):
    """How much of an upstream's bulkhead is in use."""

    in_flight: int
    concurrency: int


class Readiness(BaseModel):
    status: Literal["ready"] = "ready"
    upstreams: Annotated[
        dict[str, UpstreamHealth] | None, Field(description="With `verbose` only")
    ] = None


@router.get("/livez", summary="Is the process alive?", response_description="It is")
async def livez() -> Alive:
    """Never depends on an upstream: restarting us would not mend it."""
    return Alive()


@router.get(
    "/readyz",
    summary="Does the service want traffic?",
    response_model=Readiness,
    response_model_exclude_none=True,
    response_description="It does",
    responses={503: {"model": Problem, "description": "It is draining, and about to stop"}},
)
async def readyz(
    request: Request,
    response: Response,
    verbose: Annotated[
        Literal["", "true", "false"], Query(description="`?verbose` lists every upstream")
    ] = "false",
) -> Readiness | Response:
    """503 once a stop signal came: answers under way are finished, new ones belong elsewhere."""
    serving = service(request)
    if serving.draining:
        return problem("draining", "answers under way are finished", headers={"Retry-After": "1"})
    response.headers["Cache-Control"] = "no-store"
    if verbose == "false":
        return Readiness()
    return Readiness(
        upstreams={
            name: UpstreamHealth(in_flight=bulkhead.in_flight, concurrency=bulkhead.capacity)
            for name, bulkhead in serving.bulkheads.items()
        }
    )
