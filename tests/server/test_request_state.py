"""The state of a request: the middleware makes it, and everything below finds it in the scope."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.server.middleware import RequestMiddleware
from app.server.request_state import RequestState
from app.settings import Settings
from app.telemetry.logs import logger
from tests.fakes import now, result_or_error
from tests.in_process import a_scope, log_lines, never_disconnecting

pytestmark = pytest.mark.anyio


class Endpoint:
    """An application that responds after a second, or raises; it records method and state."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A copy, as Starlette makes of the scope for each route.
        self.method, self.state = scope["method"], RequestState.of({**scope, "path_params": {}})
        self.state.log_fields = {"complete": False}
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(1)
        if self._error is not None:
            raise self._error
        self.state.log_fields = {"complete": True}
        await send({"type": "http.response.body", "body": b"body"})


async def respond(endpoint: Endpoint, scope: Scope) -> dict[bytes, bytes]:
    """The headers that `endpoint` sends through the middleware."""
    headers: dict[bytes, bytes] = {}

    async def send(message: Message) -> None:
        headers.update(message.get("headers", ()))

    middleware = RequestMiddleware(endpoint, logger(Settings(log_format="json")))
    await result_or_error(middleware(scope, never_disconnecting, send))
    return headers


@pytest.mark.parametrize(("method", "head_only"), [("GET", False), ("HEAD", True)])
async def test_the_request_state_has_arrival_request_id_and_head_only(
    method: str, head_only: bool
) -> None:
    await asyncio.sleep(3)
    endpoint, scope = Endpoint(), a_scope("/", method)
    headers = await respond(endpoint, scope)
    assert (endpoint.state.arrived, now()) == (3.0, 4.0)
    assert endpoint.state.request_id.encode() == headers[b"x-request-id"]
    assert endpoint.state.head_only is head_only
    # To the application, HEAD is GET; the server still goes by its own scope.
    assert (endpoint.method, scope["method"]) == ("GET", method)


@pytest.mark.parametrize(("error", "complete"), [(None, True), (ZeroDivisionError(), False)])
async def test_the_log_fields_of_the_request_state_are_those_at_the_end_of_the_response(
    error: Exception | None, complete: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    await respond(Endpoint(error), a_scope("/"))
    (line,) = log_lines(capsys, "request")
    assert line["complete"] is complete


async def test_requests_in_flight_have_a_request_state_of_their_own() -> None:
    first, second = Endpoint(), Endpoint()
    await asyncio.gather(respond(first, a_scope("/")), respond(second, a_scope("/")))
    assert first.state is not second.state
    assert first.state.request_id != second.state.request_id
