"""Runs plans: all questions of one at once, a bounded number at a time of many."""

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
    pending: int = field(init=False)
    """Outcomes that may still come."""
    decided: bool = False

    def __post_init__(self) -> None:
        self.pending = len(self.plan.questions) - len(self.outcomes)


@dataclass(frozen=True, slots=True)
class Step:
    """Progress of a run: `completed` are the sections whose outcomes are new."""

    run: PlanRun
    completed: tuple[str, ...]
    last: bool


async def gather(
    plan: Plan, context: Context, fetch: Fetch, cached: Mapping[str, Outcome] | None = None
) -> Outcomes:
    """Ask at once every question of the plan that is not `cached`, and return all outcomes.

    Cancelled questions have none.
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

    The `cached` outcomes of a plan are not asked for. A plan begins when there is room for it, so
    many plans take no more memory than a few; each has exactly one step that is its last. None is
    yielded after `heartbeat` seconds in which nothing completed.

    As soon as one failure decides its plan (of a required section, or because the resource that the
    view is about does not exist), the other questions of that plan are cancelled and awaited. Only
    a `Failure` is an outcome: any other exception is raised. A caller that stops before the end
    must close the generator.
    """
    scheduler = _Scheduler(context, fetch, heartbeat)
    try:
        for plan in plans:
            run = PlanRun(plan, cached(plan))
            known = tuple(run.outcomes)
            if known:
                scheduler.ready.append(Step(run, known, last=run.pending == 0))
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
        """Cached steps. Calls for which there is room are started before these are yielded, so
        that they do not wait for a client that reads slowly."""

    def start(self, run: PlanRun, name: str) -> None:
        call = Call(run.plan.questions[name], self._context)
        self.running[asyncio.create_task(_outcome(call, self._fetch))] = run, name

    async def next_steps(self) -> list[Step | None]:
        """The steps that complete next; a heartbeat if none does in time."""
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
        run.pending -= 1
        if task.cancelled():
            return Step(run, (), last=run.pending == 0)
        run.outcomes[name] = outcome = task.result()
        if _decides(run.plan, name, outcome.result):
            siblings = [other for other, (its_run, _) in self.running.items() if its_run is run]
            for sibling in siblings:
                sibling.cancel()
            run.pending, run.decided = len(siblings), True
        return Step(run, (name,), last=run.pending == 0)


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
