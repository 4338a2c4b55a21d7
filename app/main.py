"""The wiring: settings, client, pipelines and routes become one application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from app import settings as configuration
from app.api import docs, health, openapi, overview, problems
from app.api.dependencies import Service
from app.api.envelope import Envelope
from app.demo import FAULT_HEADER, demo_fault, demo_upstream
from app.resilience.call import Answer, Call
from app.resilience.limit import Bulkhead
from app.resilience.pipeline import pipeline
from app.settings import Settings
from app.telemetry import logs
from app.upstream.client import Client, Transport, embedded
from app.upstream.exchange import exchange
from app.upstream.transport import AiohttpTransport

_DEMO_URL = "http://demo.invalid"


def create_app(settings: Settings | None = None, transport: Transport | None = None) -> FastAPI:
    """The service as an ASGI application.

    Without `settings` they are read from the environment; `transport` takes the place of the
    real one below the client, as tests do.
    """
    settings = settings or configuration.load()
    log = logs.logger(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Client(transport or _transport(settings)) as client:
            app.state.service = _service(settings, client, log)
            yield

    app = FastAPI(
        title="Tributary",
        summary="Many upstream calls, one answer, every missing part explained.",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        middleware=[Middleware(Envelope, log=log)],
    )
    app.include_router(overview.router, dependencies=[Depends(demo_fault)] if settings.demo else [])
    app.include_router(health.router)
    app.include_router(problems.router)
    problems.handle_problems(app)
    docs.docs(app)
    openapi.describe(app)
    return app


def _transport(settings: Settings) -> Transport:
    if settings.demo:
        return embedded(demo_upstream(settings.demo_latency))
    return AiohttpTransport(sum(upstream.concurrency for _, upstream in settings.upstreams.items()))


def _service(settings: Settings, client: Client, log: logs.Log) -> Service:
    bulkheads = {name: Bulkhead(u.concurrency) for name, u in settings.upstreams.items()}
    emit = logs.tell_attempts(log)
    fetches = {
        name: pipeline(
            exchange(client, upstream.urls or (settings.upstream_url or _DEMO_URL,), upstream),
            attempt_timeout=upstream.attempt_timeout,
            bulkhead=bulkheads[name],
            emit=emit,
        )
        for name, upstream in settings.upstreams.items()
    }

    async def fetch(call: Call) -> Answer:
        return await fetches[call.question.upstream](call)

    # The demo's faults come with the request, in a header that goes the way of all forwarded ones.
    forwarded = settings.forward_headers + ((FAULT_HEADER,) if settings.demo else ())
    return Service(
        settings=settings,
        fetch=fetch,
        bulkheads=bulkheads,
        forwarded=frozenset(name.encode() for name in forwarded),
        vary=", ".join(("Accept", *forwarded)),
    )
