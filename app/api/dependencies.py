"""What handlers work with: the service's state, the fan-out of a request, and its context.

Solving dependencies is a notable part of the cost of an answer (benchmarks/README.md has the
profile), so only the semaphore of each request is one.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from app.api.params import extract_trace_headers, read_cache_control
from app.call import Admission, Answer, Call, Context, Emit
from app.composition.view import Plan
from app.resilience.pipeline import Upstream
from app.server.answer_memory import AnswerMemory
from app.server.request_state import RequestState
from app.server.route_cache import RouteCache
from app.settings import Settings


@dataclass(slots=True)
class ServiceState:
    """What lives as long as the service does."""

    settings: Settings
    upstreams: Mapping[str, Upstream]
    forwarded: frozenset[bytes]
    vary: str
    route_cache: RouteCache
    answers: AnswerMemory
    draining: bool = False

    def lookup(self, call: Call) -> Answer | None:
        """A stored answer, if it may be used."""
        return self.upstreams[call.question.upstream].lookup(call)

    def fetch(self, call: Call) -> Awaitable[Answer]:
        return self.upstreams[call.question.upstream].fetch(call)

    def expected_waits(self, plan: Plan) -> list[float]:
        """Seconds until a newcomer has a permit, at each upstream that the plan needs."""
        upstreams = {question.upstream for question in plan.questions.values()}
        return [self.upstreams[name].bulkhead.expected_wait() for name in upstreams]


def service_state(request: Request) -> ServiceState:
    return cast("ServiceState", request.app.state.service)


async def fan_out_of(request: Request) -> asyncio.Semaphore:
    """A permit for each attempt that one client request may have in flight."""
    return asyncio.Semaphore(service_state(request).settings.fan_out)


FanOut = Annotated[asyncio.Semaphore, Depends(fan_out_of)]


def request_context(
    request: Request,
    fan_out: asyncio.Semaphore,
    timeout_ms: int | None,
    plan: Plan,
    watch: Emit | None = None,
) -> Context:
    """The context of a request's calls: its deadline, its fan-out, and headers of the client."""
    state = service_state(request)
    settings = state.settings
    seconds = (
        settings.request_timeout
        if timeout_ms is None
        else min(timeout_ms, settings.request_timeout_max * 1000) / 1000
    )
    request_state = RequestState.of(request.scope)
    headers = request.scope["headers"]
    no_cache, no_store = read_cache_control(headers)
    return Context(
        deadline=request_state.arrived + seconds,
        fan_out=fan_out,
        request_id=request_state.request_id,
        headers=tuple(header for header in headers if header[0] in state.forwarded),
        trace=extract_trace_headers(headers),
        arrived=request_state.arrived,
        no_cache=no_cache,
        no_store=no_store,
        admission=Admission(lambda: state.expected_waits(plan)),
        watch=watch,
    )
