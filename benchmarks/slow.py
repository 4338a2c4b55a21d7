"""`python -m benchmarks.slow PORT`: the same data, each resource with its own delay."""

import asyncio
import sys
from typing import cast
from urllib.parse import parse_qs, urlsplit

from .data import bodies
from .process import HOST

DELAYS = {"users": 0.020, "posts": 0.050, "todos": 0.100}
"""Seconds from the request to its response."""
SLOWEST = max(DELAYS.values())

BODIES = bodies()


class SlowUpstream(asyncio.Protocol):
    """HTTP/1.1 as far as a well-behaved client with bodiless GETs needs it; no pipelining."""

    def __init__(self) -> None:
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.received.endswith(b"\r\n\r\n"):
            return
        target = self.received.split(b" ", 2)[1].decode()
        self.received = b""
        resource = resource_of(target)
        delay = DELAYS[resource.partition("/")[0]]
        asyncio.get_running_loop().call_later(delay, self.respond, BODIES[resource])

    def respond(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)


def resource_of(target: str) -> str:
    """`/users/1` and `/posts?userId=1` as `users/1` and `posts/1`."""
    url = urlsplit(target)
    owner = parse_qs(url.query).get("userId", [])
    return "/".join([url.path.strip("/"), *owner])


async def main(port: int) -> None:
    upstream = await asyncio.get_running_loop().create_server(SlowUpstream, HOST, port)
    await upstream.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
