"""The wiring: one application of settings, client, pipelines and routes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from app import settings as configuration
from app.api import batch, health, overview, site
from app.api.dependencies import ServiceState
from app.api.openapi import document
from app.call import Event
from app.demo import FAULT_HEADER, demo_fault, demo_upstream
from app.problems import handlers as problems
from app.resilience.events import emit_to_watcher
from app.resilience.pipeline import pipeline
from app.resilience.store import Store
from app.server.answer_memory import AnswerMemory
from app.server.compression import CompressionMiddleware
from app.server.middleware import RequestMiddleware
from app.server.route_cache import RouteCache, RouteCacheMiddleware
from app.settings import Settings
from app.telemetry import logs
from app.upstream.client import Client, Transport, embedded
from app.upstream.exchange import exchange
from app.upstream.transport import Http1Transport

_DEMO_URL = "http://demo.invalid"


def create_app(
    settings: Settings | None = None,
    transport: Transport | None = None,
    log: logs.Log | None = None,
) -> FastAPI:
    """The service as an ASGI application.

    Without `settings` they are read from the environment; `transport` takes the place of the
    real one below the client, as tests do. Without `log`, lines are written as they come.
    """
    settings = settings or configuration.load()
    log = log or logs.logger(settings)
    route_cache = RouteCache()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Client(transport or _transport(settings)) as client:
            app.state.service = state = _service_state(settings, client, log, route_cache)
            try:
                yield
            finally:
                for upstream in state.upstreams.values():
                    await upstream.aclose()

    app = FastAPI(
        title="Tributary",
        summary="Many upstream calls, one answer, every missing part explained.",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
        middleware=[
            Middleware(RequestMiddleware, log=log, root_path=settings.root_path),
            Middleware(CompressionMiddleware),
            Middleware(RouteCacheMiddleware, cache=route_cache),
        ],
    )
    view_dependencies = [Depends(demo_fault)] if settings.demo else []
    overview.install(app, view_dependencies)
    batch.install(app, view_dependencies)
    health.install(app)
    problems.install(app, settings.root_path)
    site.install(app, settings)
    document.install(app, settings)
    return app


def _transport(settings: Settings) -> Transport:
    if settings.demo:
        return embedded(demo_upstream(settings.demo_latency))
    return Http1Transport(sum(upstream.concurrency for _, upstream in settings.upstreams.items()))


def _service_state(
    settings: Settings, client: Client, log: logs.Log, route_cache: RouteCache
) -> ServiceState:
    store, decoding = Store(), asyncio.Lock()
    log_event = logs.event_logger(log)

    def emit(event: Event) -> None:
        log_event(event)
        emit_to_watcher(event)

    upstreams = {
        name: pipeline(
            [
                exchange(client, url, upstream, emit, mirror=mirror)
                for mirror, url in enumerate(upstream.urls or (settings.upstream_url or _DEMO_URL,))
            ],
            upstream,
            store=store,
            decoding=decoding,
            request_timeout=settings.request_timeout,
            emit=emit,
        )
        for name, upstream in settings.upstreams.items()
    }
    # The demo reads its faults from a header of the client, which is forwarded like any other.
    forwarded = settings.forward_headers + ((FAULT_HEADER,) if settings.demo else ())
    return ServiceState(
        settings=settings,
        upstreams=upstreams,
        forwarded=frozenset(name.encode() for name in forwarded),
        vary=", ".join(("Accept", *forwarded, "Accept-Encoding")),
        route_cache=route_cache,
        answers=AnswerMemory(settings.answer_max),
    )
