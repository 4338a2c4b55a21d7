"""What is the same for every request: its id, security headers, and a log line.

It also answers HEAD as the routes answer GET, and turns our own bugs into problems.
"""

import asyncio
import os
import random
import re
from collections.abc import Iterable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems.responses import problem
from app.server.disconnect import ClientDisconnected
from app.server.request_state import RequestState
from app.server.security_headers import SECURITY_HEADERS
from app.telemetry.logs import Log

# A request id is no secret, and a system call for each would be 3 % of an answer from the cache.
_random = random.Random(os.urandom(32))  # noqa: S311 - no secret

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestMiddleware:
    """Plain ASGI: Starlette's `BaseHTTPMiddleware` hides a disconnect and costs a task."""

    def __init__(self, app: ASGIApp, log: Log, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        method = scope["method"]
        request_id = request_id_of(scope["headers"])
        headers = (*SECURITY_HEADERS, (b"x-request-id", request_id))
        state = RequestState.of(scope)
        state.request_id = request_id.decode()
        if method == "HEAD":  # a copy: the server goes by its own
            scope = {**scope, "method": "GET"}
            state.head_only = True
        status = 0

        async def send_wrapper(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            elif state.head_only:
                message["body"] = b""
            await send(message)

        try:
            await self._app(scope, receive, send_wrapper)
        except ClientDisconnected:
            status = 499  # nginx's code, for the log alone: there is nobody to send it to
        except asyncio.CancelledError:
            if status:
                raise
            # The server is stopping and waits no longer, but this can still be sent.
            response = problem(
                "draining",
                "this service had to stop",
                root_path=self._root_path,
                headers={"Retry-After": "1"},
            )
            await response(scope, receive, send_wrapper)
        except Exception:
            self._log.exception("internal error", request_id=state.request_id)
            if status:  # the head is sent: the client sees the error as a broken connection
                raise
            response = problem(
                "internal_error", "this service made a mistake", root_path=self._root_path
            )
            await response(scope, receive, send_wrapper)
        finally:
            self._log.info(
                "request",
                method=method,
                path=scope["path"],
                status=status,
                ms=round((perf_counter() - began) * 1000, 1),
                request_id=state.request_id,
                **state.log_fields,
            )


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The client's own if it is fit to be logged and passed on, else a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return bytes(value)
            break
    return b"%032x" % _random.getrandbits(128)
