"""Hedges and races: which attempts a round is made of, beyond one mirror in its turn.

A slow answer is most often bad luck of one attempt: a full queue, a pause, a lost packet. So when
the first attempt is late, another goes out beside it, and the first good answer wins. Waiting for
the 95th percentile before that costs one more call in twenty (Dean & Barroso, "The Tail at
Scale", CACM 2013).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

from app.call import Answer, Call, Emit, Fetch
from app.errors import CircuitOpen, Failure, NotFound
from app.resilience.budget import RetryBudget
from app.resilience.events import BudgetSpent, Hedging
from app.resilience.key_failures import KeyFailures
from app.resilience.latency import Latency
from app.resilience.mirrors import RoundRobin, most_telling
from app.tasks import cancel_and_wait

_AT_ONCE = 3
"""Attempts of one call in flight, if there are fewer mirrors: where one in twenty is slow, two are
slow once in four hundred times, and an overview of three calls feels that at its p99."""
_HARDLY_LATE = 1.5
_TAIL = 4.0
"""Medians. When everything is slow, p95 is near to the median, and a hedge would be no faster than
what it is to overtake; when one in twenty is slow, p95 itself may be the time of the slow ones."""


def race(
    mirrors: Sequence[Fetch],
    hedge: float | Literal["auto"],
    turns: RoundRobin,
    budget: RetryBudget,
    failures: KeyFailures,
    latency: Latency,
    emit: Emit,
) -> Fetch:
    """Ask one mirror, the next one when it is late or has failed, and so on: the first answer wins.

    Late is what has not come after `hedge` seconds; `auto` is the live p95, within 1.5 and 4
    medians. Each of these extra attempts is paid from the budget: one in place of a failure as a
    retry is, one beside a late attempt if it can be spared. Losers are cancelled, so a mirror that
    hangs is found out only when there are no more hedges; then the retries have to be left. With
    0, all mirrors are asked at once: that is a race, and what its owner has ordered.
    """
    at_once = max(len(mirrors), _AT_ONCE if hedge else 2)

    def hedge_delay() -> float | None:
        if hedge != "auto":
            return hedge
        if latency.p50 is None or latency.p95 is None:
            return None
        return min(max(latency.p95, _HARDLY_LATE * latency.p50), _TAIL * latency.p50)

    def may_hedge(call: Call, begun: int, late: bool) -> bool:
        """Whether there is room, time and budget for another attempt, which is paid by this."""
        now = asyncio.get_running_loop().time()
        if begun >= at_once or now + (latency.p50 or 0.0) >= call.context.deadline:
            return False
        if not failures.may_have_extra(call.key, now):
            return False
        if not budget.try_withdraw(spare=late or failures.is_spent(call.key, now)):
            emit(BudgetSpent(call))
            return False
        call.tally.hedges += 1
        emit(Hedging(call))
        return True

    def refund(call: Call) -> None:
        budget.refund()
        call.tally.hedges -= 1

    async def raced(call: Call) -> Answer:
        one_round = _Round(mirrors, turns, call, may_hedge, refund)
        try:
            return await one_round.run(hedge_delay(), len(mirrors) if hedge == 0 else 1)
        finally:
            await cancel_and_wait(one_round.running)

    return raced


class _Round:
    """The attempts of one round. `may_hedge` pays for an extra one, `refund` takes that back."""

    def __init__(
        self,
        mirrors: Sequence[Fetch],
        turns: RoundRobin,
        call: Call,
        may_hedge: Callable[[Call, int, bool], bool],
        refund: Callable[[Call], None],
    ) -> None:
        self._mirrors = mirrors
        self._turns = turns
        self._order = turns.order(call)
        self._call = call
        self._may_hedge = may_hedge
        self._refund = refund
        self._begun = 0
        self._paid = 0
        self._failures: list[Failure] = []
        self._asked: dict[asyncio.Task[Answer], int] = {}
        self.running: list[asyncio.Task[Answer]] = []
        """When there is a winner, or the round is given up: the losers."""

    async def run(self, delay: float | None, at_first: int) -> Answer:
        """The first answer. `at_first` attempts begin at once, others `delay` seconds apart."""
        for _ in range(at_first):
            self._start()
        while self.running:
            await asyncio.wait(self.running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            done = [task for task in self.running if task.done()]
            if not done and not self._hedge(late=True):
                delay = None
            for task in done:
                if task.exception() is None:
                    return task.result()
            for task in done:
                self._on_failure(task)
        raise most_telling(self._failures)

    def _start(self) -> None:
        self._call.tally.mirror = mirror = next(self._order)
        task = asyncio.create_task(_ask(self._mirrors[mirror], self._call))
        self.running.append(task)
        self._asked[task] = mirror
        self._begun += 1

    def _hedge(self, *, late: bool) -> bool:
        if not self._may_hedge(self._call, self._begun, late):
            return False
        self._paid += 1
        self._start()
        return True

    def _on_failure(self, task: asyncio.Task[Answer]) -> None:
        """Do not wait until the next mirror is due, if there is one that was not asked yet."""
        self.running.remove(task)
        failure = task.exception()
        assert failure is not None
        if not isinstance(failure, Failure) or isinstance(failure, NotFound):
            raise failure  # a bug; or an answer, if not a welcome one
        self._failures.append(failure)
        self._turns.on_failure(self._asked[task], self._call, failure)
        another = self._begun < len(self._mirrors)
        if isinstance(failure, CircuitOpen):
            # Nobody was asked, so the next one is nothing extra.
            if another:
                self._start()
            elif self._paid:
                self._paid -= 1
                self._refund(self._call)
        elif another and failure.policy.retry_on != "never":
            self._hedge(late=False)


async def _ask(mirror: Fetch, call: Call) -> Answer:
    return await mirror(call)
