"""The ASGI app of the demo: `/users/{id}`, `/posts?userId=`, `/todos?userId=`."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from app.demo.dataset import MALFORMED, dataset
from app.demo.faults import Fault, Section, UnknownFault, parse_faults

SLOW = 30.0  # seconds that a slow answer takes: three times the default REQUEST_TIMEOUT_MAX


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_EMPTY = Reply(200, b"[]")
_MISSING = Reply(404, b"{}")
_WRONG_METHOD = Reply(405, b"{}", ((b"allow", b"GET, HEAD"),))
_FAULTY: Mapping[Fault, Reply] = {
    "failing": Reply(500, b'{"error":"failing, as requested"}'),
    "malformed": Reply(200, MALFORMED),
    "missing": _MISSING,
}


def demo_upstream(latency: float) -> ASGIApp:
    """The demo upstream; every answer takes `latency` seconds, a slow one `SLOW` more."""
    resources = dataset()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await asyncio.sleep(latency)
            reply = await answer(scope, receive)
            await _send(reply, scope, send)

    async def answer(scope: Scope, receive: Receive) -> Reply:
        section, user_id = _route(scope)
        if section is None:
            return _MISSING
        if scope["method"] not in ("GET", "HEAD"):
            return _WRONG_METHOD
        try:
            fault = parse_faults(_fault_header(scope)).get(section)
        except UnknownFault as error:
            return Reply(400, json.dumps({"error": f"X-Demo-Fault: {error}"}).encode())
        if fault == "slow":
            await _wait_for_disconnect(receive, at_most=SLOW)
        if fault is not None and fault in _FAULTY:
            return _FAULTY[fault]
        resource = resources[section]
        bodies = resource.with_bad_item if fault == "bad_item" else resource.valid
        body = bodies.get(user_id)
        if body is not None:
            return Reply(200, body)
        return _MISSING if section == "user" else _EMPTY

    return app


def _route(scope: Scope) -> tuple[Section | None, str | None]:
    """The section that the path stands for (None: no such path), and the user (None: all)."""
    match scope["path"].split("/"):
        case ["", "users", user_id]:
            return "user", user_id
        case ["", ("posts" | "todos") as section]:
            query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            return section, query.get("userId", [None])[0]
    return None, None


def _fault_header(scope: Scope) -> str:
    return b",".join(v for name, v in scope["headers"] if name == b"x-demo-fault").decode("latin-1")


async def _wait_for_disconnect(receive: Receive, at_most: float) -> None:
    """Wait until the client disconnects, or `at_most` seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(at_most):
            while (await receive())["type"] != "http.disconnect":
                pass


async def _send(reply: Reply, scope: Scope, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else reply.body
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    """There is nothing to open or close: confirm each phase."""
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
