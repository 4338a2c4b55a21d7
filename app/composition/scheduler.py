"""Asking the questions of plans: all at once for one, a bounded number at a time for many."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter

from app.call import Answer, Call, Context, Fetch
from app.composition.outcome import Outcome, Outcomes
from app.composition.view import Plan
from app.errors import Failure, NotFound
from app.tasks import cancel_and_wait


@dataclass(slots=True, eq=False)
class PlanRun:
    """A plan on its way to an answer: its outcomes so far, in the order in which they completed."""

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


async def gather(
    plan: Plan, context: Context, fetch: Fetch, cached: Mapping[str, Outcome] | None = None
) -> Outcomes:
    """Ask every question of the plan at once that is not `cached`, and give all outcomes.

    What was cancelled is missing among them.
    """
    outcomes: dict[str, Outcome] = dict(cached or {})
    async for _ in compose([plan], context, fetch, lambda _: outcomes, at_once=len(plan.questions)):
        pass
    return outcomes


async def compose(
    plans: Iterable[Plan],
    context: Context,
    fetch: Fetch,
    cached: Callable[[Plan], dict[str, Outcome]],
    *,
    at_once: int,
    heartbeat: float | None = None,
) -> AsyncGenerator[Step | None]:
    """Ask the questions of all plans, `at_once` of them at a time, and yield what completes.

    What is `cached` of a plan is not asked. A plan is begun when there is room for it, so many
    plans cost no more memory than a few; each has exactly one step that is its last. None stands
    for `heartbeat` seconds in which nothing completed.

    As soon as one outcome decides its plan (the section is required, or the resource that all is
    about does not exist), the other questions of that plan are cancelled, and awaited. Only a
    `Failure` is an outcome: any other exception is raised. Whoever leaves before the end has to
    close the generator.
    """
    scheduler = _Scheduler(context, fetch, heartbeat)
    try:
        for plan in plans:
            run = PlanRun(plan, cached(plan))
            known = tuple(run.outcomes)
            if known:
                scheduler.ready.append(Step(run, known, last=run.awaited == 0))
            for name in (name for name in plan.questions if name not in known):
                while len(scheduler.running) >= at_once:
                    for step in await scheduler.next_steps():
                        yield step
                if run.decided:
                    break
                scheduler.start(run, name)
            if scheduler.ready:
                for step in await scheduler.next_steps():
                    yield step
        while scheduler.running:
            for step in await scheduler.next_steps():
                yield step
    finally:
        await cancel_and_wait(scheduler.running)


class _Scheduler:
    """The questions that are in flight, each in a task."""

    def __init__(self, context: Context, fetch: Fetch, heartbeat: float | None) -> None:
        self._context = context
        self._fetch = fetch
        self._heartbeat = heartbeat
        self.running: dict[asyncio.Task[Outcome], tuple[PlanRun, str]] = {}
        self.ready: list[Step | None] = []
        """What needs no call. It is yielded once the calls are in flight for which there is room:
        they need not wait for a client that reads slowly."""

    def start(self, run: PlanRun, name: str) -> None:
        call = Call(run.plan.questions[name], self._context)
        self.running[asyncio.create_task(_outcome(call, self._fetch))] = run, name

    async def next_steps(self) -> list[Step | None]:
        """What completes next, and at the same time; a heartbeat if nothing does."""
        if self.ready:
            ready, self.ready = self.ready, []
            return ready
        await asyncio.wait(
            self.running, timeout=self._heartbeat, return_when=asyncio.FIRST_COMPLETED
        )
        done = [task for task in self.running if task.done()]
        return [self._complete(task) for task in done] or [None]

    def _complete(self, task: asyncio.Task[Outcome]) -> Step:
        run, name = self.running.pop(task)
        run.awaited -= 1
        if task.cancelled():
            return Step(run, (), last=run.awaited == 0)
        run.outcomes[name] = outcome = task.result()
        if _decides(run.plan, name, outcome.result):
            siblings = [task for task, (whose, _) in self.running.items() if whose is run]
            for sibling in siblings:
                sibling.cancel()
            run.awaited, run.decided = len(siblings), True
        return Step(run, (name,), last=run.awaited == 0)


async def _outcome(call: Call, fetch: Fetch) -> Outcome:
    # Not a method: a cancelled task's traceback would keep `self` alive, and all that it refers to.
    began = perf_counter()
    result: Answer | Failure
    try:
        result = await fetch(call)
    except Failure as failure:
        result = failure
    return Outcome(result, call.tally, perf_counter() - began)


def _decides(plan: Plan, name: str, result: Answer | Failure) -> bool:
    return isinstance(result, NotFound) or (isinstance(result, Failure) and name in plan.required)
