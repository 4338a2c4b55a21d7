"""Asking the questions of plans: all at once for one, a bounded number at a time for many."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from app.errors import Failure, NotFound
from app.resilience.call import Answer, Call, Context, Fetch
from app.resilience.ending import end
from app.views.plan import Outcome, Outcomes, Plan


@dataclass(slots=True, eq=False)
class Composing:
    """A plan on its way to an answer: its outcomes so far, in the order in which they landed."""

    plan: Plan
    outcomes: dict[str, Outcome]
    awaited: int = field(init=False)
    """Outcomes that may still come."""
    decided: bool = False

    def __post_init__(self) -> None:
        self.awaited = len(self.plan.questions) - len(self.outcomes)


@dataclass(frozen=True, slots=True)
class Step:
    """Something has come of a plan: `landed` are the sections that are new among its outcomes."""

    of: Composing
    landed: tuple[str, ...]
    last: bool


def lookup(
    plan: Plan, context: Context, found: Callable[[Call], Answer | None]
) -> dict[str, Outcome]:
    """What can be answered without asking anybody, and so without waiting or a task."""
    outcomes: dict[str, Outcome] = {}
    for name, question in plan.questions.items():
        call = Call(question, context)
        answer = found(call)
        if answer is not None:
            outcomes[name] = Outcome(answer, call.tally, 0.0)
    return outcomes


async def gather(
    plan: Plan, context: Context, fetch: Fetch, found: Mapping[str, Outcome] | None = None
) -> Outcomes:
    """Ask every question of the plan at once that is not `found`; give what came of each.

    What was given up is missing from what is given.
    """
    outcomes: dict[str, Outcome] = dict(found or {})
    async for _ in compose([plan], context, fetch, lambda _: outcomes, at_once=len(plan.questions)):
        pass
    return outcomes


async def compose(
    plans: Iterable[Plan],
    context: Context,
    fetch: Fetch,
    found: Callable[[Plan], dict[str, Outcome]],
    *,
    at_once: int,
    quiet: float | None = None,
) -> AsyncGenerator[Step | None]:
    """Ask the questions of all plans, `at_once` of them at a time, and tell each that lands.

    What is `found` of a plan is not asked. A plan is begun when there is room for it, so many plans
    cost no more memory than a few; each has exactly one step that is its last. None stands for
    `quiet` seconds in which nothing has landed.

    As soon as one outcome decides the whole of its plan (it is required, or what all is about does
    not exist), the others of that plan are given up, and awaited. Only a `Failure` is an outcome:
    any other exception is raised. Whoever leaves before the end has to close the generator.
    """
    asking = _Asking(context, fetch, quiet)
    try:
        for plan in plans:
            composing = Composing(plan, found(plan))
            at_hand = tuple(composing.outcomes)
            if at_hand:
                asking.steps_at_hand.append(Step(composing, at_hand, composing.awaited == 0))
            for name in (one for one in plan.questions if one not in at_hand):
                while len(asking.running) >= at_once:
                    for step in await asking.steps():
                        yield step
                if composing.decided:
                    break
                asking.begin(composing, name)
            if asking.steps_at_hand:
                for step in await asking.steps():
                    yield step
        while asking.running:
            for step in await asking.steps():
                yield step
    finally:
        await end(asking.running)


class _Asking:
    """The questions that are being asked, each in a task."""

    def __init__(self, context: Context, fetch: Fetch, quiet: float | None) -> None:
        self._context = context
        self._fetch = fetch
        self._quiet = quiet
        self.running: dict[asyncio.Task[Outcome], tuple[Composing, str]] = {}
        self.steps_at_hand: list[Step | None] = []
        """What needs no asking; told when all else is under way for which there is room."""

    def begin(self, composing: Composing, name: str) -> None:
        call = Call(composing.plan.questions[name], self._context)
        self.running[asyncio.create_task(_outcome(call, self._fetch))] = composing, name

    async def steps(self) -> list[Step | None]:
        """What has come next, and at the same time."""
        if self.steps_at_hand:
            at_hand, self.steps_at_hand = self.steps_at_hand, []
            return at_hand
        await asyncio.wait(self.running, timeout=self._quiet, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in self.running if task.done()]
        return [self._step(task) for task in ended] or [None]

    def _step(self, task: asyncio.Task[Outcome]) -> Step:
        composing, name = self.running.pop(task)
        composing.awaited -= 1
        if task.cancelled():
            return Step(composing, (), composing.awaited == 0)
        composing.outcomes[name] = outcome = task.result()
        if _decides(composing.plan, name, outcome.result):
            siblings = [task for task, (whose, _) in self.running.items() if whose is composing]
            for sibling in siblings:
                sibling.cancel()
            composing.awaited, composing.decided = len(siblings), True
        return Step(composing, (name,), composing.awaited == 0)


async def _outcome(call: Call, fetch: Fetch) -> Outcome:
    # No method: a task that was cancelled remembers where, and would keep all that `self` does.
    began = perf_counter()
    result: Answer | Failure
    try:
        result = await fetch(call)
    except Failure as failure:
        result = failure
    return Outcome(result, call.tally, perf_counter() - began)


def _decides(plan: Plan, name: str, result: Answer | Failure) -> bool:
    return isinstance(result, NotFound) or (isinstance(result, Failure) and name in plan.required)
