"""An upstream over TLS that hangs: what is given up ends at once, and nothing else suffers.

A graceful end of TLS would wait for this upstream for thirty seconds.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from time import perf_counter

from chaos.figures import Figure, at_most, exactly, info, percentile
from chaos.load import closed_loop
from chaos.service import Response, Service, service_process
from chaos.upstreams import url_settings
from tests.service.replies import good, head, never, respond_with
from tests.service.running import NOISE
from tests.service.upstream import Exchange, Reply, Upstream
from tests.upstream.http1.sockets import AUTHORITY, server_context

_DESCRIPTORS = 1024
_CLIENTS = 30
_DEADLINE = 0.3
_SECONDS = 10.0
_MAX_SOCKETS = 120
_ENDS_WITHIN = 0.1
_TIMES = 20


async def tls_hang(directory: Path) -> AsyncIterator[Figure]:
    """Clients that do not wait for it, and then every other way to give an attempt up."""
    async for figure in _impatient_clients(directory):
        yield figure
    async for figure in _early_closes(directory):
        yield figure


async def _impatient_clients(directory: Path) -> AsyncIterator[Figure]:
    users = count(1000)
    ended: dict[str, float] = {}
    sockets: list[int] = []
    async with _service(directory, good, never) as (service, posts):

        async def request() -> Response:
            user = next(users)
            headers = {"X_Request_Timeout_Ms": f"{_DEADLINE * 1000:.0f}", "X_Request_ID": f"{user}"}
            response = await service.overview(user, **headers)
            ended[str(user)] = response.began + response.seconds
            return response

        async def count_sockets() -> None:
            while True:
                sockets.append(service.sockets())
                await asyncio.sleep(0.1)

        counting = asyncio.create_task(count_sockets())
        responses = await closed_loop(request, _CLIENTS, _SECONDS)
        counting.cancel()
        await asyncio.wait([counting])
        name = f"tls_hang, {_CLIENTS} clients of {_DEADLINE * 1000:.0f} ms"
        others = sum(not _lacks_posts_alone(one) for one in responses)
        late = percentile([one.seconds for one in responses], 0.99) - _DEADLINE
        yield info(f"{name}, answers", f"{len(responses) / _SECONDS:.0f}/s")
        yield exactly(f"{name}, answers that are not 200 without posts", others, 0)
        yield at_most(f"{name}, p99 beyond it", late, 0.05, "ms")
        yield at_most(f"{name}, sockets", max(sockets), _MAX_SOCKETS)
        delays = [
            await _delay(exchange, ended[exchange.headers["x-request-id"]])
            for exchange in posts.exchanges
        ]
        for figure in _ends(name, delays):
            yield figure


@dataclass(frozen=True, slots=True)
class _Kind:
    """Why an attempt is given up; `leaves` is the client, otherwise it waits for its answer."""

    name: str
    reply: Reply
    query: str = "?include=posts"
    leaves: bool = False


async def _large_refusal(exchange: Exchange) -> None:
    await exchange.send(head("403 Forbidden", content_length=100_000) + b"no")
    await never(exchange)


async def _too_large(exchange: Exchange) -> None:
    await exchange.send(head(content_length=2**30), b" " * 2**21)
    await never(exchange)


_KINDS = (
    _Kind("client gone", never, leaves=True),
    _Kind("required section failed", never, "?require=user"),
    _Kind("hedge lost", never),
    _Kind("refused", _large_refusal),
    _Kind("too large", _too_large),
)


async def _early_closes(directory: Path) -> AsyncIterator[Figure]:
    kinds = {kind.name: kind for kind in _KINDS}
    given_up: dict[str, list[Exchange]] = defaultdict(list)
    users = count(1000)

    async def reply(exchange: Exchange) -> None:
        request_id = exchange.headers["x-request-id"]
        kind = kinds[request_id.partition(".")[2].replace("-", " ")]
        if kind.name == "hedge lost" and given_up[request_id]:
            await good(exchange)
        else:
            given_up[request_id].append(exchange)
            await kind.reply(exchange)

    async def refusal(exchange: Exchange) -> None:
        await asyncio.sleep(0.05)
        await respond_with(b"{}", "403 Forbidden")(exchange)

    settings = {"UPSTREAMS__POSTS__HEDGE": 0.1, "UPSTREAMS__POSTS__ATTEMPT_TIMEOUT": 5}
    async with _service(directory, refusal, reply, **settings) as (service, _):
        for kind in _KINDS:
            delays = []
            for _ in range(_TIMES):
                user = next(users)
                request_id = f"{user}.{kind.name.replace(' ', '-')}"
                client = asyncio.create_task(
                    service.overview(user, kind.query, X_Request_ID=request_id)
                )
                if kind.leaves:
                    await asyncio.sleep(0.05)
                    client.cancel()
                with suppress(asyncio.CancelledError):
                    await client
                ended = perf_counter()
                delays += [await _delay(exchange, ended) for exchange in given_up[request_id]]
            for figure in _ends(f"tls_hang, {kind.name}", delays):
                yield figure


@asynccontextmanager
async def _service(
    directory: Path, users: Reply, posts: Reply, **settings: object
) -> AsyncIterator[tuple[Service, Upstream]]:
    """Its posts come over TLS."""
    async with AsyncExitStack() as stack:
        upstreams = {
            "USERS": await stack.enter_async_context(Upstream(users)),
            "POSTS": await stack.enter_async_context(Upstream(posts, server_context())),
            "TODOS": await stack.enter_async_context(Upstream(good)),
        }
        urls = url_settings(upstreams)
        service = await stack.enter_async_context(
            service_process(
                directory, {}, "app", _DESCRIPTORS, SSL_CERT_FILE=AUTHORITY, **urls, **settings
            )
        )
        yield service, upstreams["POSTS"]


def _lacks_posts_alone(response: Response) -> bool:
    statuses = response.json if response.status == 200 else {}
    return [statuses.get(name, {}).get("status") for name in ("user", "posts", "todos")] == [
        *("ok", "failed", "ok")
    ]


async def _delay(exchange: Exchange, given_up_at: float) -> float:
    """Seconds until the upstream sees the end of an attempt that was given up."""
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            return max(await exchange.disconnected - given_up_at, 0.0)
    return inf


def _ends(name: str, delays: list[float]) -> Iterator[Figure]:
    name = f"{name}, {len(delays)} attempts"
    yield at_most(f"{name}, p99 until they end", percentile(delays, 0.99), _ENDS_WITHIN, "ms")
    yield at_most(f"{name}, longest", max(delays, default=inf), _ENDS_WITHIN + NOISE, "ms")
