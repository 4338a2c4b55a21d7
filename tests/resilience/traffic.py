"""Clients that call a pipeline on the virtual clock, and mirrors that answer by key and time."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from app.call import Answer, Call, Tally
from app.errors import Failure
from app.resilience.breaker import State
from app.resilience.pipeline import Upstream
from tests.fakes import an_answer, now, result_or_error
from tests.resilience.pipelines import a_call_about

POISON = 10**6
"""A key that only fails."""

End = tuple[float, Failure | None]
"""How an attempt ends: after so many seconds, with a failure or an answer."""


class Mirror:
    """A mirror whose attempts end as `behave` says of what they are about, when they begin."""

    def __init__(self, behave: Callable[[int], End]) -> None:
        self._behave = behave
        self.began: list[tuple[float, int]] = []

    async def __call__(self, call: Call) -> Answer:
        about = int(call.question.target.removeprefix("/posts/"))
        self.began.append((now(), about))
        seconds, failure = self._behave(about)
        await asyncio.sleep(seconds)
        if failure is not None:
            raise failure
        return an_answer(b"%d" % about)

    def asked_for(self, about: int) -> list[float]:
        return [began for began, key in self.began if key == about]


@dataclass(frozen=True)
class Client:
    """Calls at `start`, and waits for `timeout` seconds; or it hangs up after `hang_up`."""

    start: float
    about: int
    timeout: float = 2.0
    hang_up: float | None = None
    no_cache: bool = False


@dataclass(frozen=True)
class Ended:
    client: Client
    seconds: float
    result: object
    tally: Tally

    @property
    def answered(self) -> bool:
        return isinstance(self.result, Answer)


def steady(
    every: float, start: float, end: float, about: Callable[[int], int] | int = 0, **client: object
) -> Iterable[Client]:
    """Clients from `start` to `end`. `about` is one key, or gives that of each by its number."""
    for number in range(round((end - start) / every)):
        key = about(number) if callable(about) else about
        yield Client(start + number * every, key, **client)  # type: ignore[arg-type]


async def run(upstream: Upstream, *clients: Iterable[Client]) -> list[Ended]:
    """How the calls of all `clients` ended, in the order of their start."""

    async def call(client: Client) -> Ended:
        await asyncio.sleep(client.start - now())
        began = now()
        made = a_call_about(client.about, began + client.timeout)
        context = replace(made.context, arrived=began, no_cache=client.no_cache)
        made = replace(made, context=context)
        stored = upstream.lookup(made)
        if stored is not None:
            return Ended(client, 0.0, stored, made.tally)
        task = asyncio.ensure_future(upstream.fetch(made))
        await asyncio.wait([task], timeout=client.hang_up)
        task.cancel()
        return Ended(client, now() - began, await result_or_error(task), made.tally)

    everybody = sorted((one for some in clients for one in some), key=lambda one: one.start)
    results = await asyncio.gather(*map(call, everybody))
    await upstream.aclose()
    return results


def good(ended: Sequence[Ended]) -> list[Ended]:
    """Those about other keys than the one that only fails."""
    return [one for one in ended if one.client.about < POISON]


def share_answered(ended: Sequence[Ended]) -> float:
    return sum(one.answered for one in ended) / len(ended)


def states(upstream: Upstream) -> list[State]:
    """Of the mirrors' circuit breakers."""
    return [breaker.state(now()) for breaker in upstream.breakers]
