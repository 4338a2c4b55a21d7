"""Decoding what an exchange has brought; large bodies one at a time.

Decoding a megabyte keeps the event loop for some ten milliseconds. Forty of them that have arrived
together would keep it for half a second: between two of them, everybody else has a turn.
"""

import asyncio
from dataclasses import replace

from app.call import Answer, Call, Exchange, Fetch
from app.errors import Overloaded

_LARGE = 65_536
"""Bytes: less than a millisecond."""


def decoded(exchange: Exchange, turn: asyncio.Lock) -> Fetch:
    """The exchange with its reply decoded, in `turn` if it is large.

    All upstreams share the turn, as they share the event loop. Who waits for it waits for us, not
    for the upstream: no attempt timeout runs, and it is not counted in `Latency`.
    """
    time = asyncio.get_running_loop().time

    async def fetch(call: Call) -> Answer:
        reply = await exchange(call)
        if reply.size <= _LARGE:
            return reply.decode()
        received = time()
        try:
            async with asyncio.timeout_at(call.context.deadline) as scope, turn:
                await asyncio.sleep(0)  # the turn of everybody else
                return replace(reply.decode(), waited=time() - received)
        except TimeoutError:
            if not scope.expired():
                raise  # not ours, so a bug
        raise Overloaded("no time to decode the answer before the deadline")

    return fetch
