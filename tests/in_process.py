"""The service in this process: real from its ASGI interface down to the client, with upstreams
that are mocked below it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import respx
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.types import Message, Scope

from app.api.dependencies import ServiceState
from app.composition.models import view_models
from app.main import create_app
from app.settings import Settings
from app.views.overview import overview

USER_ID = 7
PATH = f"/v1/users/{USER_ID}/overview"
SECTIONS = ("user", "posts", "todos")
UPSTREAMS = ("users", "posts", "todos")

MODELS = view_models(overview)

USER = {"id": USER_ID, "name": "Ada", "username": "ada", "email": "ada@example.org"}
POST = {"userId": USER_ID, "id": 1, "title": "t", "body": "b"}
TODO = {"userId": USER_ID, "id": 2, "title": "t", "completed": True}

READ_TIMEOUT, CONNECT_ERROR = httpx.ReadTimeout("late"), httpx.ConnectError("broken")
STATUS_404, STATUS_500 = httpx.Response(404, json={}), httpx.Response(500)
STATUS_429 = httpx.Response(429, headers={"Retry-After": "7"})
WRONG_SHAPE = httpx.Response(200, json="not the model")


def every_upstream(**settings: Any) -> dict[str, dict[str, Any]]:
    """The same settings for every upstream."""
    return dict.fromkeys(UPSTREAMS, settings)


NO_RETRIES = every_upstream(retries=0)


def healthy_upstream() -> respx.MockRouter:
    """Upstreams that have all of user 7; each route has the name of its section."""
    router = respx.MockRouter(assert_all_called=False, base_url="http://upstream.test")
    router.get(f"/users/{USER_ID}", name="user").respond(json=USER)
    router.get(f"/posts?userId={USER_ID}", name="posts").respond(json=[POST, POST])
    router.get(f"/todos?userId={USER_ID}", name="todos").respond(json=[TODO])
    return router


Reply = httpx.Response | Exception
"""A response of an upstream, or the error of the client that asks it."""


def upstream_with(**replies: Reply | Callable[..., Any]) -> respx.MockRouter:
    """Healthy upstreams, but for the sections that reply otherwise."""
    router = healthy_upstream()
    for name, reply in replies.items():
        replace_route(router, name, reply)
    return router


def replace_route(
    router: respx.MockRouter, name: str, reply: Reply | Callable[..., Any] | Iterator[Reply]
) -> None:
    """From now on, the upstream of a section replies so."""
    if isinstance(reply, httpx.Response):
        router[name].mock(return_value=reply)
    else:
        router[name].mock(side_effect=reply)


class HangingUpstream:
    """Never replies. It records its requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await asyncio.Event().wait()
        raise AssertionError


class ServiceClient(httpx.AsyncClient):
    """A client of the service, with access to its state."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(transport=httpx.ASGITransport(app), base_url="http://service.test")
        self.app = app

    @property
    def state(self) -> ServiceState:
        state = self.app.state.service
        assert isinstance(state, ServiceState)
        return state

    async def overview(self, query: str = "", **headers: str) -> httpx.Response:
        """`GET` the overview of user 7. An underscore stands for the hyphen of a header's name."""
        hyphenated = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.get(PATH + query, headers=hyphenated)


@asynccontextmanager
async def running_service(
    upstream: respx.MockRouter, **settings: Any
) -> AsyncIterator[ServiceClient]:
    """The service above `upstream`."""
    defaults: Mapping[str, Any] = {"upstream_url": "http://upstream.test", "log_format": "json"}
    transport = httpx.MockTransport(upstream.async_handler)
    app = create_app(Settings(**{**defaults, **settings}), transport)
    async with app.router.lifespan_context(app), ServiceClient(app) as client:
        yield client


@asynccontextmanager
async def running_demo(**settings: Any) -> AsyncIterator[ServiceClient]:
    """The service without upstream settings: above its own demo."""
    app = create_app(Settings(**{"demo_latency": 0, "log_format": "json", **settings}))
    async with app.router.lifespan_context(app), ServiceClient(app) as client:
        yield client


def a_scope(path: str, method: str = "GET") -> Scope:
    """The ASGI scope of a request, as a server makes it."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        "server": ("service.test", 80),
        "scheme": "http",
    }


async def never_disconnecting() -> Message:
    """The ASGI `receive` of a client that waits for its response."""
    await asyncio.Event().wait()
    raise AssertionError


def body_of(response: httpx.Response, model: type[BaseModel]) -> Any:
    """The JSON body, which must be exactly what `model` documents."""
    body = json.loads(response.content)
    parsed = model.model_validate_json(response.content)
    assert parsed.model_dump(mode="json", exclude_unset=True) == body
    return body


def validated(value: Any, model: type[BaseModel]) -> Any:
    """JSON that is a part of a body, and must be exactly what `model` documents."""
    assert model.model_validate(value).model_dump(mode="json", exclude_unset=True) == value
    return value


def timing_description(response: httpx.Response) -> str:
    """The description (`desc`) of the first section in Server-Timing."""
    metric = response.headers["server-timing"].split(", ")[0]
    return str(metric.partition(";desc=")[2].strip('"'))


def log_lines(capsys: pytest.CaptureFixture[str], event: str | None = None) -> list[dict[str, Any]]:
    """The log since the last call: one JSON object a line, all of them or those of one event."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if event in (None, line["event"])]
