"""The service in this process, above an upstream that answers as told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import respx
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Message, Scope

from app.api.dependencies import ServiceState
from app.composition.models import view_models
from app.main import create_app
from app.settings import Settings
from app.views.overview import overview

ID = 7
PATH = f"/v1/users/{ID}/overview"
NAMES = ("user", "posts", "todos")

MODELS = view_models(overview)

UPSTREAMS = ("users", "posts", "todos")

USER = {"id": ID, "name": "Ada", "username": "ada", "email": "ada@example.org"}
POST = {"userId": ID, "id": 1, "title": "t", "body": "b"}
TODO = {"userId": ID, "id": 2, "title": "t", "completed": True}

LATE, BROKEN = httpx.ReadTimeout("late"), httpx.ConnectError("broken")
BUSY, FAULTY = httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(500)
GARBAGE, ABSENT = httpx.Response(200, json="garbage"), httpx.Response(404, json={})


def each(**settings: Any) -> dict[str, dict[str, Any]]:
    """The same settings for every upstream."""
    return dict.fromkeys(UPSTREAMS, settings)


ONCE = each(retries=0)


def healthy() -> respx.MockRouter:
    """All is well with user 7; a route by the name of each section."""
    router = respx.MockRouter(assert_all_called=False, base_url="http://upstream.test")
    router.get(f"/users/{ID}", name="user").respond(json=USER)
    router.get(f"/posts?userId={ID}", name="posts").respond(json=[POST, POST])
    router.get(f"/todos?userId={ID}", name="todos").respond(json=[TODO])
    return router


End = httpx.Response | Exception


def upstream_with(**ends: End | Callable[..., Any]) -> respx.MockRouter:
    """All is well but for the sections that end otherwise."""
    router = healthy()
    for name, end in ends.items():
        replace_route(router, name, end)
    return router


def replace_route(
    router: respx.MockRouter, name: str, end: End | Callable[..., Any] | Iterator[End]
) -> None:
    """From now on, the section ends so."""
    if isinstance(end, httpx.Response):
        router[name].mock(return_value=end)
    else:
        router[name].mock(side_effect=end)


class Hanging:
    """Never answers, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        await asyncio.Event().wait()
        raise AssertionError


class Running(httpx.AsyncClient):
    """A client of the service, and a look behind it."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(transport=httpx.ASGITransport(app), base_url="http://service.test")
        self.app = app

    @property
    def service(self) -> ServiceState:
        service = self.app.state.service
        assert isinstance(service, ServiceState)
        return service

    async def overview(self, query: str = "", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.get(PATH + query, headers=named)


@asynccontextmanager
async def running_service(upstream: respx.MockRouter, **settings: Any) -> AsyncIterator[Running]:
    """The service above `upstream`."""
    given: Mapping[str, Any] = {"upstream_url": "http://upstream.test", "log_format": "json"}
    transport = httpx.MockTransport(upstream.async_handler)
    app = create_app(Settings(**{**given, **settings}), transport)
    async with app.router.lifespan_context(app), Running(app) as running:
        yield running


@asynccontextmanager
async def running_demo(**settings: Any) -> AsyncIterator[Running]:
    """The service with nothing configured: above its own demo."""
    app = create_app(Settings(**{"demo_latency": 0, "log_format": "json", **settings}))
    async with app.router.lifespan_context(app), Running(app) as running:
        yield running


def a_scope(path: str, method: str = "GET") -> Scope:
    """A request as a server hands it over."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        "server": ("service.test", 80),
        "scheme": "http",
    }


async def never_leaving() -> Message:
    """All there is to receive from a client that waits for its answer."""
    await asyncio.Event().wait()
    raise AssertionError


def body_of(response: httpx.Response, model: type[BaseModel]) -> Any:
    """The body, which is exactly what its documented model says."""
    body = json.loads(response.content)
    parsed = model.model_validate_json(response.content)
    assert parsed.model_dump(mode="json", exclude_unset=True) == body
    return body


def logged(output: str) -> list[dict[str, Any]]:
    """What was written to the log, which is one JSON object a line."""
    return [json.loads(line) for line in output.splitlines()]
