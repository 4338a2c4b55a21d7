"""The replies of a healthy upstream, and the parts that every reply is made of."""

import asyncio
import gzip
import json
import random

from tests.service.upstream import Exchange, Reply

# In the headers of every response, and in the body of many faults: no client may ever see it.
SECRET = "hush-5eb63bbbe01e"

_UNKNOWN_USER = 999


def head(status: str = "200 OK", **headers: object) -> bytes:
    """A response's head; underscores in a name become dashes, and None leaves a header out."""
    fields = {
        "content_type": "application/json; charset=utf-8",
        "set_cookie": f"session={SECRET}; Path=/",
        "x_powered_by": SECRET,
        **headers,
    }
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in fields.items() if v is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def respond_with(body: bytes, status: str = "200 OK", **headers: object) -> Reply:
    """A well-formed response with a `Content-Length`."""

    async def reply(exchange: Exchange) -> None:
        await exchange.send(head(status, content_length=len(body), **headers) + body)

    return reply


def posts(user_id: int) -> list[dict[str, object]]:
    return [
        {"userId": user_id, "id": n, "title": f"Post {n}", "body": "Höhe über Null"}
        for n in (1, 2, 3)
    ]


def resource(target: str) -> bytes | None:
    """The JSON at a request target, or None for a 404."""
    path, _, query = target.partition("?userId=")
    if path == "/posts":
        return json.dumps(posts(int(query))).encode()
    if path == "/todos":
        todo = {"userId": int(query), "id": 1, "title": "Read the gauge", "completed": True}
        return json.dumps([todo]).encode()
    user_id = int(path.removeprefix("/users/"))
    if user_id == _UNKNOWN_USER:
        return None
    user = {"id": user_id, "name": "Marit Foss", "username": "marit", "email": "marit@foss.example"}
    return json.dumps(user).encode()


async def good(exchange: Exchange) -> None:
    body = resource(exchange.target)
    reply = respond_with(b"{}", "404 Not Found") if body is None else respond_with(body)
    await reply(exchange)


async def gzipped(exchange: Exchange) -> None:
    body = gzip.compress(resource(exchange.target) or b"")
    await respond_with(body, content_encoding="gzip")(exchange)


async def never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


def delayed(seconds: float, at_most: float | None = None, seed: int = 0) -> Reply:
    """Good after `seconds`, or after a random time between `seconds` and `at_most`."""
    chance = random.Random(seed)

    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(chance.uniform(seconds, at_most or seconds))
        await good(exchange)

    return reply
