"""All that a handler may ask for.

What FastAPI has to solve is a large part of the cost of an answer (benchmarks/README.md has the
profile), so only what belongs in its hands is a dependency: the semaphore of each request.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Header, Request
from pydantic import BeforeValidator, Field

from app.api import caching
from app.api.remembering import RouteCache
from app.api.trace import extract_trace_headers
from app.resilience.call import Answer, Call, Context
from app.resilience.events import Emit
from app.resilience.pipeline import Upstream
from app.resilience.shed import overload_wait
from app.settings import Settings
from app.views.compose import lookup
from app.views.plan import Outcome, Plan


@dataclass(slots=True)
class Service:
    """What lives as long as the service does."""

    settings: Settings
    upstreams: Mapping[str, Upstream]
    forwarded: frozenset[bytes]
    vary: str
    route_cache: RouteCache = field(default_factory=RouteCache)
    draining: bool = False

    def lookup(self, call: Call) -> Answer | None:
        return self.upstreams[call.question.upstream].fetch.lookup(call)

    def found(self, context: Context) -> Callable[[Plan], dict[str, Outcome]]:
        """What can be answered without asking anybody."""
        return lambda plan: lookup(plan, context, self.lookup)

    def fetch(self, call: Call) -> Awaitable[Answer]:
        return self.upstreams[call.question.upstream].fetch(call)


def _digits(value: object) -> object:
    # Pydantic would also read 1.0, 1_0, +1 and 007; one number has one spelling here.
    if isinstance(value, str) and not re.fullmatch(r"0|[1-9][0-9]*", value):
        raise ValueError("must be a whole number, in digits")
    return value


PlainDigits = BeforeValidator(_digits)


def service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def fan_out(request: Request) -> asyncio.Semaphore:
    """The attempts that one client request may have in flight."""
    return asyncio.Semaphore(service(request).settings.fan_out)


FanOut = Annotated[asyncio.Semaphore, Depends(fan_out)]

TimeoutMs = Annotated[
    Annotated[int, Field(ge=1), PlainDigits] | None,
    Header(
        alias="X-Request-Timeout-Ms",
        description="How long the client will wait, in milliseconds; "
        "clamped to what the service allows",
        examples=[800],
    ),
]


def request_context(
    request: Request,
    fan_out: asyncio.Semaphore,
    timeout_ms: int | None,
    plan: Plan,
    watch: Emit | None = None,
) -> Context:
    """On whose behalf: until when, how wide, and with which of the client's headers."""
    state = service(request)
    settings = state.settings
    seconds = (
        settings.request_timeout
        if timeout_ms is None
        else min(timeout_ms, settings.request_timeout_max * 1000) / 1000
    )
    return Context(
        deadline=request.scope["arrived"] + seconds,
        fan_out=fan_out,
        request_id=request.scope["request_id"],
        headers=tuple(one for one in request.scope["headers"] if one[0] in state.forwarded),
        trace=extract_trace_headers(request.scope["headers"]),
        no_cache=caching.bypasses_cache(request.headers.getlist("cache-control")),
        overload_wait=overload_wait(
            (state.upstreams[one.upstream].bulkhead for one in plan.questions.values()), seconds
        ),
        watch=watch,
    )
