"""Two mirrors of which one refuses, or is dead: the other one answers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from chaos.figures import Figure, at_least
from chaos.load import open_loop, users
from chaos.service import NAMES, Response, service_process
from tests.service.replies import delayed, never, respond_with
from tests.service.upstream import Reply, Upstream, refused

_ERROR = respond_with(b"", "500 Internal Server Error")
_REFUSING: dict[str, tuple[str, str, Reply]] = {
    "503": ("USERS", "user", respond_with(b"", "503 Service Unavailable", retry_after=120)),
    "429": ("POSTS", "posts", respond_with(b"", "429 Too Many Requests", retry_after=120)),
}
_DEAD: dict[str, tuple[str, str, Reply]] = {
    "refused": ("USERS", "user", refused),
    "500": ("POSTS", "posts", _ERROR),
    "hang": ("TODOS", "todos", never),
}
_UNUSED = "http://127.0.0.1:1"
"""Each upstream needs a URL, asked or not."""
_RATE, _SECONDS = 20.0, 6.0
_NIGHTLY_RATES = (1.0, 3.0)
_NIGHT = 20.0
_KNOWN_AFTER = 3.0


async def mirrors(directory: Path) -> AsyncIterator[Figure]:
    """Three services side by side: refusing mirrors, and dead ones at two low rates."""
    refusing, *dead = await asyncio.gather(
        _run(directory, _REFUSING, _RATE, _SECONDS),
        *(_run(directory, _DEAD, rate, _NIGHT) for rate in _NIGHTLY_RATES),
    )
    for kind, responses in refusing.items():
        share = _complete(responses, since=0.0)
        yield at_least(f"mirrors, one says {kind}, complete", share, 1.0, "%")
    for rate, kinds in zip(_NIGHTLY_RATES, dead, strict=True):
        for kind, responses in kinds.items():
            name = f"mirrors, one dead ({kind}), {rate:g} requests a second"
            share = _complete(responses, since=_KNOWN_AFTER)
            yield at_least(f"{name}, complete from the third second on", share, 0.98, "%")


def _complete(responses: list[Response], since: float) -> float:
    began = responses[0].began + since
    counted = [one.complete for one in responses if one.began >= began]
    return sum(counted) / len(counted)


async def _run(
    directory: Path, kinds: dict[str, tuple[str, str, Reply]], rate: float, seconds: float
) -> dict[str, list[Response]]:
    """Each upstream has a mirror that fails in its own way, and a healthy one."""
    async with AsyncExitStack() as stack:
        urls = {f"UPSTREAMS__{name}__URLS": _UNUSED for name in NAMES}
        for name, _, reply in kinds.values():
            bad = await stack.enter_async_context(Upstream(reply))
            healthy = await stack.enter_async_context(Upstream(delayed(0.02)))
            urls[f"UPSTREAMS__{name}__URLS"] = f"{bad.url},{healthy.url}"
        service = await stack.enter_async_context(service_process(directory, {}, **urls))

        async def load(section: str) -> list[Response]:
            query = f"?include={section}"
            return await open_loop(lambda: service.overview(next(users), query), rate, seconds)

        responses = await asyncio.gather(*(load(section) for _, section, _ in kinds.values()))
    return dict(zip(kinds, responses, strict=True))
