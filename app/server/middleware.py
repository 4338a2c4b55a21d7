"""What every answer gets, whichever route gave it: an identity, security headers, and a log line.

And what every route is spared: our own bugs, and the difference between HEAD and GET.
"""

import asyncio
import os
import random
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems.responses import problem
from app.server.disconnect import ClientDisconnected
from app.server.request_state import RequestState
from app.telemetry.logs import Log

# Not a secret, and a system call each would be 3 % of an answer from the cache.
_random = random.Random(os.urandom(32))  # noqa: S311

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_CSP = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"content-security-policy", _CSP),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)


class RequestMiddleware:
    """Plain ASGI: Starlette's `BaseHTTPMiddleware` hides a client's leaving and costs a task."""

    def __init__(self, app: ASGIApp, log: Log) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        method = scope["method"]
        request_id = _request_id(scope)
        headers = (*SECURITY_HEADERS, (b"x-request-id", request_id))
        if method == "HEAD":  # a copy: the server goes by its own
            scope = {**scope, "method": "GET"}
        state = RequestState(
            request_id.decode(), asyncio.get_running_loop().time(), head_only=method == "HEAD"
        )
        state.attach(scope)
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
            status = 499  # nginx's number for it; nobody is there to read it
        except asyncio.CancelledError:
            if status:
                raise
            # At a second stop signal the server waits no longer: this is the last that it can send.
            response = problem("draining", "this service had to stop")
            await response(scope, receive, send_wrapper)
        except Exception:
            self._log.exception("internal error", request_id=state.request_id)
            if status:  # too late for a problem: the broken connection has to say it
                raise
            response = problem("internal_error", "this service made a mistake")
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


def _request_id(scope: Scope) -> bytes:
    """The client's own if it is fit to be logged and passed on, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return bytes(value)
            break
    return b"%032x" % _random.getrandbits(128)
