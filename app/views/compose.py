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
class PlanRun:
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
    """Progress of a run: `completed` are the sections whose outcomes are new."""

    run: PlanRun
    completed: tuple[str, ...]
    last: bool


def lookup(
    plan: Plan, context: Context, found: Callable[[Call], Answer | None]
) -> dict[str, Outcome]:
    """What can be answered scheduler anybody, and so without waiting or a task."""
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
    heartbeat: float | None = None,
) -> AsyncGenerator[Step | None]:
    """Ask the questions of all plans, `at_once` of them at a time, and tell each that lands.

    What is `found` of a plan is not asked. A plan is begun when there is room for it, so many plans
    cost no more memory than a few; each has exactly one step that is its last. None stands for
    `heartbeat` seconds in which nothing has landed.

    As soon as one outcome decides the whole of its plan (it is required, or what all is about does
    not exist), the others of that plan are given up, and awaited. Only a `Failure` is an outcome:
    any other exception is raised. Whoever leaves before the end has to close the generator.
    """
    scheduler = _Scheduler(context, fetch, heartbeat)
    try:
        for plan in plans:
            run = PlanRun(plan, found(plan))
            cached = tuple(run.outcomes)
            if cached:
                scheduler.cached_steps.append(Step(run, cached, run.awaited == 0))
            for name in (one for one in plan.questions if one not in cached):
                while len(scheduler.running) >= at_once:
                    for step in await scheduler.steps():
                        yield step
                if run.decided:
                    break
                scheduler.begin(run, name)
            if scheduler.cached_steps:
                for step in await scheduler.steps():
                    yield step
        while scheduler.running:
            for step in await scheduler.steps():
                yield step
    finally:
        await end(scheduler.running)


class _Scheduler:
    """The questions that are being asked, each in a task."""

    def __init__(self, context: Context, fetch: Fetch, heartbeat: float | None) -> None:
        self._context = context
        self._fetch = fetch
        self._heartbeat = heartbeat
        self.running: dict[asyncio.Task[Outcome], tuple[PlanRun, str]] = {}
        self.cached_steps: list[Step | None] = []
        """What needs no call; sent when all else is under way for which there is room."""

    def begin(self, run: PlanRun, name: str) -> None:
        call = Call(run.plan.questions[name], self._context)
        self.running[asyncio.create_task(_outcome(call, self._fetch))] = run, name

    async def steps(self) -> list[Step | None]:
        """What has come next, and at the same time."""
        if self.cached_steps:
            cached, self.cached_steps = self.cached_steps, []
            return cached
        await asyncio.wait(
            self.running, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
        )
        ended = [task for task in self.running if task.done()]
        return [self._step(task) for task in ended] or [None]

    def _step(self, task: asyncio.Task[Outcome]) -> Step:
        run, name = self.running.pop(task)
        run.awaited -= 1
        if task.cancelled():
            return Step(run, (), run.awaited == 0)
        run.outcomes[name] = outcome = task.result()
        if _decides(run.plan, name, outcome.result):
            siblings = [task for task, (whose, _) in self.running.items() if whose is run]
            for sibling in siblings:
                sibling.cancel()
            run.awaited, run.decided = len(siblings), True
        return Step(run, (name,), run.awaited == 0)


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
