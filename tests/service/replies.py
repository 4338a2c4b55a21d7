"""What an upstream in good health says, and the parts that every reply is made of."""

import asyncio
import gzip
import json
import random

from tests.service.upstream import Exchange, Reply

# In the headers of every answer, and wherever a fault has room for it: no client may ever see it.
SECRET = "hush-5eb63bbbe01e"

_UNKNOWN_USER = 999


def head(status: str = "200 OK", **headers: object) -> bytes:
    """The head of an answer; underscores in a name are dashes, and None leaves a header out."""
    told = {
        "content_type": "application/json; charset=utf-8",
        "set_cookie": f"session={SECRET}; Path=/",
        "x_powered_by": SECRET,
        **headers,
    }
    lines = [f"{k.replace('_', '-')}: {v}" for k, v in told.items() if v is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def saying(body: bytes, status: str = "200 OK", **headers: object) -> Reply:
    """A well-formed answer."""

    async def reply(exchange: Exchange) -> None:
        await exchange.send(head(status, content_length=len(body), **headers) + body)

    return reply


def posts(user_id: int) -> list[dict[str, object]]:
    return [
        {"userId": user_id, "id": n, "title": f"Post {n}", "body": "Höhe über Null"}
        for n in (1, 2, 3)
    ]


def resource(target: str) -> bytes | None:
    """The JSON at a path, or None where there is nothing."""
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
    answer = saying(b"{}", "404 Not Found") if body is None else saying(body)
    await answer(exchange)


async def compressed(exchange: Exchange) -> None:
    body = gzip.compress(resource(exchange.target) or b"")
    await saying(body, content_encoding="gzip")(exchange)


async def never(exchange: Exchange) -> None:
    await asyncio.Event().wait()


def after(seconds: float, most: float | None = None, seed: int = 0) -> Reply:
    """Good, but only after `seconds`, or some time between `seconds` and `most`."""
    chance = random.Random(seed)

    async def reply(exchange: Exchange) -> None:
        await asyncio.sleep(chance.uniform(seconds, most or seconds))
        await good(exchange)

    return reply
