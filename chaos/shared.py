"""What calls share: a flight and its leader's time and trace, and a connection that was kept."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from chaos.figures import Figure, at_least, info
from chaos.load import open_loop, users
from chaos.service import Response, Service, service_process
from chaos.upstreams import three_upstreams, url_settings
from tests.service.replies import good, respond_with
from tests.service.upstream import Exchange, Reply

_FAILS_AFTER = 0.15
_LEADER_MS, _FOLLOWER_MS = "155", "5000"
_PAIRS = 40

_TRACING_CLIENTS = 8
_TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": ",".join(f"v{n}={'x' * 250}" for n in range(80)),
}
"""Valid but for its length of 20 kB: an upstream need not take more than 512 bytes."""
_LARGEST_HEAD = 16_384
"""Bytes of headers, beyond which Node answers 431."""

_CLOSED_AFTER = 0.02
_CALLS = 450


async def _fails_leaders(exchange: Exchange) -> None:
    """503 after a while for the attempts of a leader, at once good for all others."""
    if int(exchange.headers["x-request-timeout-ms"]) <= int(_LEADER_MS):
        await asyncio.sleep(_FAILS_AFTER)
        await respond_with(b"", "503 Service Unavailable")(exchange)
    else:
        await good(exchange)


async def _like_node(exchange: Exchange) -> None:
    await asyncio.sleep(0.05)
    size = sum(len(name) + len(value) + 4 for name, value in exchange.headers.items())
    if size > _LARGEST_HEAD:
        await respond_with(b"", "431 Request Header Fields Too Large")(exchange)
    else:
        await good(exchange)


async def _closes_soon(exchange: Exchange) -> None:
    """Good; the connection is closed after a moment, without a word."""
    await good(exchange)
    asyncio.get_running_loop().call_later(_CLOSED_AFTER, exchange.close)


async def shared(directory: Path) -> AsyncIterator[Figure]:
    """One service with an upstream for each; and all of them are asked at the same time."""
    replies: dict[str, Reply] = {
        "USERS": _fails_leaders,
        "POSTS": _like_node,
        "TODOS": _closes_soon,
    }
    async with (
        three_upstreams(replies) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        followers, victims, reused = await asyncio.gather(
            _followers(service), _victims_of_a_trace(service), _kept_connections(service)
        )
        connections = upstreams["TODOS"].connections
    name = f"shared, followers of a leader with {_LEADER_MS} ms, complete"
    yield at_least(name, _complete(followers), 1.0, "%")
    name = f"shared, beside {_TRACING_CLIENTS} clients with 20 kB of tracestate, complete"
    yield at_least(name, _complete(victims), 1.0, "%")
    name = f"shared, upstream that closes after {_CLOSED_AFTER * 1000:.0f} ms, complete"
    yield at_least(name, _complete(reused), 1.0, "%")
    yield info("shared, connections that it took", f"{connections} for {_CALLS} calls")


def _complete(responses: list[Response]) -> float:
    return sum(one.complete for one in responses) / len(responses)


async def _followers(service: Service) -> list[Response]:
    """Each follows a leader that has no time for a retry; others keep the circuit closed."""

    async def pair() -> Response:
        user = next(users)
        leader = asyncio.create_task(
            service.overview(user, "?include=user", X_Request_Timeout_Ms=_LEADER_MS)
        )
        await asyncio.sleep(0.02)
        follower = await service.overview(user, "?include=user", X_Request_Timeout_Ms=_FOLLOWER_MS)
        await leader
        return follower

    async def other() -> Response:
        return await service.overview(next(users), "?include=user")

    seconds = _PAIRS / 10
    followers, _ = await asyncio.gather(open_loop(pair, 10, seconds), open_loop(other, 20, seconds))
    return followers


async def _victims_of_a_trace(service: Service) -> list[Response]:
    """Clients that ask for the same user as those with a large trace, at the same time."""
    user = next(users)

    async def tracing() -> Response:
        return await service.overview(user, "?include=posts", **_TRACE)

    async def plain() -> Response:
        return await service.overview(user, "?include=posts")

    async def again_and_again() -> None:
        await open_loop(tracing, 20, 4)

    _, victims = await asyncio.gather(
        asyncio.gather(*(again_and_again() for _ in range(_TRACING_CLIENTS))),
        open_loop(plain, 50, 4),
    )
    return victims


async def _kept_connections(service: Service) -> list[Response]:
    async def request() -> Response:
        return await service.overview(next(users), "?include=todos")

    return await open_loop(request, 90, _CALLS / 90)
