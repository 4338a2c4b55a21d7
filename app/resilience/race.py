"""Mirrors, hedges and races: which attempts a round is made of.

A slow answer is most often bad luck of one attempt: a full queue, a pause, a lost packet. So when
the first attempt is late, another goes out beside it, and the first good answer wins. Waiting for
the 95th percentile before that costs one more call in twenty (Dean & Barroso, "The Tail at
Scale", CACM 2013).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Literal

from app.errors import CircuitOpen, Failure, NotFound
from app.resilience.budget import RetryBudget
from app.resilience.call import Answer, Call, Fetch
from app.resilience.ending import end
from app.resilience.events import BudgetSpent, Emit, Hedging
from app.resilience.latency import Latency

_AT_ONCE = 3
"""Attempts of one call in flight, if there are fewer mirrors: where one in twenty is slow, two are
slow once in four hundred times, and an overview of three calls feels that at its p99."""
_HARDLY_LATE = 1.5
_TAIL = 4.0
"""Medians. When everything is slow, p95 is near to the median, and a hedge would be no faster than
what it is to overtake; when one in twenty is slow, p95 itself may be the time of the slow ones."""


def round_robin(mirrors: Sequence[Fetch]) -> Fetch:
    """Ask one mirror a round, each in its turn, passing over those whose circuit is open."""
    if len(mirrors) == 1:
        return mirrors[0]
    turns = _Turns(len(mirrors))

    async def asked_in_turn(call: Call) -> Answer:
        refusals: list[Failure] = []
        order = turns.of(call)
        for _ in mirrors:
            call.tally.mirror = mirror = next(order)
            try:
                return await mirrors[mirror](call)
            except CircuitOpen as refusal:
                refusals.append(refusal)
        raise _most_telling(refusals)

    return asked_in_turn


def race(
    mirrors: Sequence[Fetch],
    hedge: float | Literal["auto"],
    budget: RetryBudget,
    latency: Latency,
    emit: Emit,
) -> Fetch:
    """Ask one mirror, the next one when it is late or has failed, and so on: the first answer wins.

    Late is what has not come after `hedge` seconds; `auto` is the live p95, within 1.5 and 4
    medians. Each of these extra attempts is paid from the budget. With 0, all mirrors are asked at
    once: that is a race, and what its owner has ordered. Losers are cancelled and awaited.
    """
    turns = _Turns(len(mirrors))
    at_once = max(len(mirrors), _AT_ONCE if hedge else 2)

    def hedge_delay() -> float | None:
        if hedge != "auto":
            return hedge
        if latency.p50 is None or latency.p95 is None:
            return None
        return min(max(latency.p95, _HARDLY_LATE * latency.p50), _TAIL * latency.p50)

    def may_hedge(call: Call, begun: int) -> bool:
        """Whether there is room, time and budget for another attempt."""
        now = asyncio.get_running_loop().time()
        if begun >= at_once or now + (latency.p50 or 0.0) >= call.context.deadline:
            return False
        if not budget.try_withdraw():
            emit(BudgetSpent(call))
            return False
        call.tally.hedges += 1
        emit(Hedging(call))
        return True

    def refund(call: Call) -> None:
        budget.refund()
        call.tally.hedges -= 1

    async def raced(call: Call) -> Answer:
        round_ = _Round(mirrors, turns.of(call), call, may_hedge, refund)
        try:
            return await round_.run(hedge_delay(), len(mirrors) if hedge == 0 else 1)
        finally:
            await end(round_.running)

    return raced


class _Round:
    """The attempts of one round. `may_hedge` is asked, and pays, before each extra one.

    `refund` gets the price back of one that found a circuit open.
    """

    def __init__(
        self,
        mirrors: Sequence[Fetch],
        order: Iterator[int],
        call: Call,
        may_hedge: Callable[[Call, int], bool],
        refund: Callable[[Call], None],
    ) -> None:
        self._mirrors = mirrors
        self._order = order
        self._call = call
        self._may_hedge = may_hedge
        self._refund = refund
        self._begun = 0
        self._paid = 0
        self._failures: list[Failure] = []
        self.running: list[asyncio.Task[Answer]] = []
        """When it is won or given up: the losers."""

    async def run(self, late: float | None, at_first: int) -> Answer:
        """The first answer, if there is one; `at_first` attempts are begun without being late."""
        for _ in range(at_first):
            self._start()
        while self.running:
            await asyncio.wait(self.running, timeout=late, return_when=asyncio.FIRST_COMPLETED)
            ended = [task for task in self.running if task.done()]
            if not ended and not self._hedge():
                late = None
            for task in ended:
                if task.exception() is None:
                    return task.result()
            for task in ended:
                self.running.remove(task)
                failure = task.exception()
                if not isinstance(failure, Failure) or isinstance(failure, NotFound):
                    assert failure is not None
                    raise failure  # a bug; or an answer, if not a welcome one
                self._failures.append(failure)
                self._go_on_after(failure)
        raise _most_telling(self._failures)

    def _start(self) -> None:
        self._call.tally.mirror = mirror = next(self._order)
        self.running.append(asyncio.create_task(_asked(self._mirrors[mirror], self._call)))
        self._begun += 1

    def _hedge(self) -> bool:
        if not self._may_hedge(self._call, self._begun):
            return False
        self._paid += 1
        self._start()
        return True

    def _go_on_after(self, failure: Failure) -> None:
        """Do not wait for the next mirror to be due, if there is one that was not asked yet."""
        another = self._begun < len(self._mirrors)
        if isinstance(failure, CircuitOpen):
            # Nobody was asked, so the next one is nothing extra.
            if another:
                self._start()
            elif self._paid:
                self._paid -= 1
                self._refund(self._call)
        elif another and failure.retry_on != "never":
            self._hedge()


class _Turns:
    """A round-robin among `mirrors`, but a call that was there goes on to the next one."""

    def __init__(self, mirrors: int) -> None:
        self._mirrors = mirrors
        self._starts = count()

    def of(self, call: Call) -> Iterator[int]:
        last = call.tally.mirror
        first = next(self._starts) if last < 0 else last + 1
        return (mirror % self._mirrors for mirror in count(first))


async def _asked(mirror: Fetch, call: Call) -> Answer:
    return await mirror(call)


def _most_telling(failures: Sequence[Failure]) -> Failure:
    """The last one that comes from a mirror, else the circuit that closes first."""
    for failure in reversed(failures):
        if not isinstance(failure, CircuitOpen):
            return failure
    return min(failures, key=lambda refusal: refusal.retry_after or 0.0)
