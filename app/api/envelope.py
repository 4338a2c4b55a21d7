"""What every answer gets, whichever route gave it: an identity, safe headers, and a log line.

And what every route is spared: our own bugs, and the difference between HEAD and GET.
"""

import asyncio
import os
import random
import re
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.hangup import ClientDisconnected
from app.api.problems import problem
from app.telemetry.logs import Log

# Not a secret, and a system call each would be 3 % of an answer from the cache.
_random = random.Random(os.urandom(32))  # noqa: S311

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_CSP = (
    b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    b"form-action 'self'; frame-ancestors 'none'"
)
SAFE = (
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
        headers = (*SAFE, (b"x-request-id", request_id))
        if method == "HEAD":  # RFC 9110 §9.3.2: the answer to GET without its content
            # A copy: the server goes by its own.
            scope = {**scope, "method": "GET", "without_content": True}
        scope["request_id"] = request_id.decode()
        scope["arrived"] = asyncio.get_running_loop().time()
        status = 0

        async def send_wrapper(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            elif method == "HEAD":
                message["body"] = b""
            await send(message)

        try:
            await self._app(scope, receive, send_wrapper)
        except ClientDisconnected:
            status = 499  # nginx's name for it; nobody is there to read it
        except asyncio.CancelledError:
            if status:
                raise
            # Told twice to stop, the server waits no longer: this is the last word it can have.
            await problem("draining", "this service had to stop")(scope, receive, send_wrapper)
        except Exception:
            self._log.exception("internal error", request_id=scope["request_id"])
            if status:  # too late for a word: the broken connection has to say it
                raise
            await problem("internal_error", "this service made a mistake")(
                scope, receive, send_wrapper
            )
        finally:
            self._log.info(
                "request",
                method=method,
                path=scope["path"],
                status=status,
                ms=round((perf_counter() - began) * 1000, 1),
                request_id=scope["request_id"],
                **scope.get("log", {}),
            )


def _request_id(scope: Scope) -> bytes:
    """The client's own if it is fit to be logged and passed on, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return bytes(value)
            break
    return b"%032x" % _random.getrandbits(128)
