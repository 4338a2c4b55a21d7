"""The upstream refuses what it gave before: old data are served once more, and never again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from chaos.figures import Figure, exactly
from chaos.load import users
from chaos.service import Service, service_process
from chaos.upstreams import Switch, three_upstreams, url_settings
from tests.service.replies import resource, respond_with
from tests.service.upstream import Exchange, Upstream

_REFUSALS = {
    "401": "401 Unauthorized",
    "403": "403 Forbidden",
    "404": "404 Not Found",
    "410": "410 Gone",
    "451": "451 Unavailable For Legal Reasons",
}
_CONTROL = "max-age=1, stale-while-revalidate=60, stale-if-error=60"
_LATER = 20
"""Requests after the refresh, while the upstream refuses and when it breaks after that."""


async def _stored(exchange: Exchange) -> None:
    await respond_with(resource(exchange.target) or b"", cache_control=_CONTROL)(exchange)


async def refusals(directory: Path) -> AsyncIterator[Figure]:
    """One user for each kind; the answer after the first refresh is the refusal."""
    switches = {"USERS": Switch(_stored), "POSTS": Switch(_stored), "TODOS": Switch(_stored)}
    async with (
        three_upstreams(switches) as upstreams,
        service_process(directory, {}, **url_settings(upstreams)) as service,
    ):
        for kind, status in _REFUSALS.items():
            for section, name in (("user", "USERS"), ("posts", "POSTS")):
                old = await _old_answers(service, switches[name], upstreams[name], section, status)
                yield exactly(f"refusals, {section}, {kind}, old answers after it", old, 0)


async def _old_answers(
    service: Service, switch: Switch, upstream: Upstream, section: str, status: str
) -> int:
    """How many answers were old after the first refresh had been refused."""
    user = next(users)

    async def is_ok() -> bool:
        return (await service.overview(user, f"?include={section}")).status == 200

    assert await is_ok()
    await asyncio.sleep(1.1)
    async with switch.switched_to(respond_with(b"{}", status)):
        before = len(upstream.exchanges)
        await is_ok()  # may be old, and begins the refresh
        async with asyncio.timeout(1):
            while len(upstream.exchanges) == before:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        old = [await is_ok() for _ in range(_LATER)]
    async with switch.switched_to(respond_with(b"", "500 Internal Server Error")):
        old += [await is_ok() for _ in range(_LATER)]
    return sum(old)
