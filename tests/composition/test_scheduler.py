"""`compose`: the calls of many plans, a bounded number at a time, in steps as they complete."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from math import sqrt
from weakref import WeakValueDictionary

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Answer, Call, Data, Question, Tally
from app.composition.outcome import Outcome, Outcomes
from app.composition.scheduler import Step, compose
from app.composition.view import Plan
from app.errors import Failure, NotFound, Timeout, Unreachable
from tests.fakes import (
    A_VIEW,
    FakeUpstream,
    a_context,
    an_answer,
    leaving_nothing,
    now,
    on_virtual_time,
    result_or_error,
)

pytestmark = pytest.mark.anyio

SECTIONS = ("user", "posts", "todos")


@dataclass(frozen=True)
class Behaviour:
    """How long a call takes, and how it fails, if so. `cached`: there is no call."""

    seconds: float = 1.0
    failure: Failure | None = None
    cached: bool = False


CallId = tuple[int, str]
"""The subject of a plan, and one of its sections."""


def a_plan(subject: int, included: Sequence[str] = SECTIONS, required: Sequence[str] = ()) -> Plan:
    questions = {name: Question(name, str(subject), Data) for name in SECTIONS if name in included}
    return Plan(A_VIEW, subject, questions, frozenset(required))


def id_of(call: Call) -> CallId:
    return int(call.question.target), call.question.upstream


@dataclass
class Simulation:
    """Plans and how their calls behave; it records when each call started."""

    plans: Sequence[Plan]
    behaviours: Mapping[CallId, Behaviour]
    started: list[tuple[float, CallId]] = field(default_factory=list)
    in_flight: int = 0
    max_in_flight: int = 0

    def cached(self, plan: Plan) -> dict[str, Outcome]:
        names = (name for name in plan.questions if self.behaviours[plan.subject, name].cached)
        return {name: Outcome(an_answer(), Tally(), 0.0) for name in names}

    async def fetch(self, call: Call) -> Answer:
        behaviour = self.behaviours[id_of(call)]
        self.started.append((now(), id_of(call)))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(behaviour.seconds)
        finally:
            self.in_flight -= 1
        if behaviour.failure is not None:
            raise behaviour.failure
        return an_answer()

    async def steps(self, at_once: int, limit: int | None = None) -> list[Step]:
        """The steps of `compose`, which is closed after `limit` of them."""
        steps = list[Step]()
        composed = compose(self.plans, a_context(), self.fetch, self.cached, at_once=at_once)
        async with aclosing(composed):
            async for step in composed:
                assert step is not None
                steps.append(step)
                if len(steps) == limit:
                    break
        return steps

    def expected(self, at_once: int) -> tuple[list[tuple[float, CallId]], dict[int, list[str]]]:
        """When each call starts, and what completes of each plan: by a queue and a list."""
        waiting = [
            (plan, name)
            for plan in self.plans
            for name in plan.questions
            if not self.behaviours[plan.subject, name].cached
        ]
        running = list[tuple[float, Plan, str]]()
        completed = {plan.subject: list(self.cached(plan)) for plan in self.plans}
        decided, started, clock = set[int](), [], 0.0
        while waiting or running:
            while waiting and len(running) < at_once:
                plan, name = waiting.pop(0)
                if plan.subject not in decided:
                    key = plan.subject, name
                    started.append((clock, key))
                    running.append((clock + self.behaviours[key].seconds, plan, name))
            if running:
                clock, plan, name = first = min(running, key=lambda one: one[0])
                running.remove(first)
                completed[plan.subject].append(name)
                failure = self.behaviours[plan.subject, name].failure
                if isinstance(failure, NotFound) or (failure and name in plan.required):
                    decided.add(plan.subject)
                    running = [one for one in running if one[1] is not plan]
        return started, completed


PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
"""No two sums of their roots are equal, so no two calls end at the same instant."""
FAILURES = (None, None, None, Unreachable("broken"), Timeout("late"), NotFound("nobody"))


@st.composite
def simulations(draw: st.DrawFn, seconds: Sequence[float]) -> Simulation:
    times = iter(draw(st.permutations(seconds)))
    plans = list[Plan]()
    behaviours = dict[CallId, Behaviour]()
    for subject in range(draw(st.integers(1, len(seconds) // 3))):
        included = draw(st.lists(st.sampled_from(SECTIONS), min_size=1, unique=True))
        plans.append(a_plan(subject, included, draw(st.lists(st.sampled_from(included)))))
        for name in included:
            cached = draw(st.integers(0, 3)) == 0
            failure = None if cached else draw(st.sampled_from(FAILURES))
            behaviours[subject, name] = Behaviour(next(times), failure, cached)
    return Simulation(plans, behaviours)


def outcomes(steps: Sequence[Step]) -> dict[int, Outcomes]:
    return {step.run.plan.subject: step.run.outcomes for step in steps}


@given(simulations([sqrt(prime) for prime in PRIMES]), st.integers(1, 8))
def test_calls_start_and_complete_as_in_a_naive_simulation(
    simulation: Simulation, at_once: int
) -> None:
    async def main() -> None:
        async with leaving_nothing():
            steps = await simulation.steps(at_once)
        started, completed = simulation.expected(at_once)
        assert [call for _, call in simulation.started] == [call for _, call in started]
        assert [time for time, _ in simulation.started] == pytest.approx(
            [time for time, _ in started]
        )
        assert {of: list(by_name) for of, by_name in outcomes(steps).items()} == completed

    on_virtual_time(main)


@given(simulations([0, 0, 0, *[1] * 6, *[2] * 6]), st.integers(1, 8))
def test_each_plan_has_one_last_step_and_each_outcome_one_step(
    simulation: Simulation, at_once: int
) -> None:
    """Here, many calls complete at the same instant."""

    async def main() -> None:
        async with leaving_nothing():
            steps = await simulation.steps(at_once)
        assert (simulation.in_flight, simulation.max_in_flight <= at_once) == (0, True)
        assert sorted(step.run.plan.subject for step in steps if step.last) == [
            plan.subject for plan in simulation.plans
        ]
        completed = [(step.run.plan.subject, name) for step in steps for name in step.completed]
        assert len(completed) == len(set(completed))
        by_call = {
            (of, name): outcome
            for of, by_name in outcomes(steps).items()
            for name, outcome in by_name.items()
        }
        assert set(completed) == set(by_call)
        for call, outcome in by_call.items():
            assert outcome.result == (simulation.behaviours[call].failure or an_answer())

    on_virtual_time(main)


@given(simulations([0, 0, 0, *[1] * 6, *[2] * 6]), st.integers(1, 8), st.integers(1, 20))
def test_closing_compose_early_leaves_no_call_in_flight(
    simulation: Simulation, at_once: int, limit: int
) -> None:
    async def main() -> None:
        async with leaving_nothing():
            await simulation.steps(at_once, limit)
        assert simulation.in_flight == 0

    on_virtual_time(main)


async def test_cached_sections_are_yielded_while_calls_are_in_flight() -> None:
    plans = [a_plan(0), a_plan(1)]
    behaviours = {(of, name): Behaviour(9.0, cached=of == 1) for of in (0, 1) for name in SECTIONS}
    simulation = Simulation(plans, {**behaviours, (0, "posts"): Behaviour(cached=True)})
    seen = list[tuple[float, CallId, bool]]()
    async for step in compose(plans, a_context(), simulation.fetch, simulation.cached, at_once=2):
        assert step is not None
        seen += [(now(), (step.run.plan.subject, name), step.last) for name in step.completed]
    assert [time for time, _ in simulation.started] == [0.0, 0.0]
    assert seen[0] == (0.0, (0, "posts"), False)
    # Both places are taken, but a cached section needs none.
    assert seen[1:4] == [(0.0, (1, name), True) for name in SECTIONS]
    assert [time for time, _, _ in seen[4:]] == [9.0, 9.0]


async def test_a_plan_is_started_when_there_is_room_for_its_calls() -> None:
    started = list[float]()

    def plans() -> Iterator[Plan]:
        for subject in range(6):
            started.append(now())
            yield a_plan(subject, ["posts"])

    upstream = FakeUpstream(seconds=1)
    async for _ in compose(plans(), a_context(), upstream, lambda _: {}, at_once=2):
        # One more plan waits for room.
        assert len(started) <= len(upstream.began) + 1
    assert upstream.began == [0, 0, 1, 1, 2, 2]
    assert started == [0, 0, 0, 1, 1, 2]


async def test_completed_plans_are_not_kept_in_memory() -> None:
    class Questions(dict[str, Question]):
        """Can be referenced weakly, which a plain dict cannot."""

    in_memory = WeakValueDictionary[int, Questions]()

    def plans() -> Iterator[Plan]:
        for subject in range(100):
            questions = Questions(a_plan(subject).questions)
            in_memory[subject] = questions
            yield Plan(A_VIEW, subject, questions, frozenset())

    completed = max_in_memory = 0
    async for step in compose(plans(), a_context(), FakeUpstream(1), lambda _: {}, at_once=6):
        assert step is not None
        completed += step.last
        max_in_memory = max(max_in_memory, len(in_memory))
    assert completed == 100
    assert max_in_memory <= 6


@pytest.mark.parametrize("at_once", [1, 2, 6])
async def test_a_bug_is_raised_and_cancels_the_calls_in_flight(at_once: int) -> None:
    upstream, bug = FakeUpstream(seconds=60), ZeroDivisionError("ours")

    async def fetch(call: Call) -> Answer:
        if id_of(call) == (0, "user"):
            await asyncio.sleep(1)
            raise bug
        return await upstream(call)

    async def composed() -> None:
        plans = [a_plan(0, required=SECTIONS), a_plan(1), a_plan(2)]
        async for _ in compose(plans, a_context(), fetch, lambda _: {}, at_once=at_once):
            raise AssertionError

    async with leaving_nothing():
        assert await result_or_error(composed()) is bug
    assert now() == 1.0
    assert (upstream.cancelled, upstream.in_flight) == (at_once - 1, 0)
    assert len(upstream.began) == at_once - 1


@pytest.mark.parametrize(
    ("heartbeat", "steps"),
    [
        (None, [(2.5, True), (4.0, True), (4.3, True)]),
        (1.0, [(1, False), (2, False), (2.5, True), (3.5, False), (4.0, True), (4.3, True)]),
        (1.6, [(1.6, False), (2.5, True), (4.0, True), (4.3, True)]),
    ],
)
async def test_a_heartbeat_is_yielded_after_each_interval_without_a_completion(
    heartbeat: float | None, steps: list[tuple[float, bool]]
) -> None:
    seconds = zip(SECTIONS, (2.5, 4.0, 4.3), strict=True)
    simulation = Simulation([a_plan(0)], {(0, name): Behaviour(time) for name, time in seconds})
    seen = list[tuple[float, bool]]()
    composed = compose(
        simulation.plans,
        a_context(),
        simulation.fetch,
        simulation.cached,
        at_once=3,
        heartbeat=heartbeat,
    )
    async for step in composed:
        seen.append((round(now(), 3), step is not None))
    assert seen == steps


async def test_a_plan_decided_by_a_404_has_no_step_after_its_last() -> None:
    simulation = Simulation(
        [a_plan(0)],
        {
            (0, "user"): Behaviour(1, NotFound("nobody")),
            (0, "posts"): Behaviour(cached=True),
            (0, "todos"): Behaviour(),
        },
    )
    assert [step.last for step in await simulation.steps(at_once=1)] == [False, True]
