"""`compose`: the questions of many plans, so many at a time, and a step for what comes of them."""

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

NAMES = ("user", "posts", "todos")


@dataclass(frozen=True)
class Fate:
    """How long a question takes, and how it ends. `stored`: there is nothing to ask."""

    seconds: float = 1.0
    failure: Failure | None = None
    stored: bool = False


Name = tuple[int, str]
"""A plan, and one of its questions."""


def a_plan(subject: int, asked: Sequence[str] = NAMES, required: Sequence[str] = ()) -> Plan:
    questions = {name: Question(name, str(subject), Data) for name in NAMES if name in asked}
    return Plan(A_VIEW, subject, questions, frozenset(required))


def name_of(call: Call) -> Name:
    return int(call.question.target), call.question.upstream


@dataclass
class World:
    """Plans and what becomes of their questions; it remembers what was asked when."""

    plans: Sequence[Plan]
    fates: Mapping[Name, Fate]
    began: list[tuple[float, Name]] = field(default_factory=list)
    in_flight: int = 0
    most: int = 0

    def found(self, plan: Plan) -> dict[str, Outcome]:
        stored = (name for name in plan.questions if self.fates[plan.subject, name].stored)
        return {name: Outcome(an_answer(), Tally(), 0.0) for name in stored}

    async def fetch(self, call: Call) -> Answer:
        fate = self.fates[name_of(call)]
        self.began.append((now(), name_of(call)))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(fate.seconds)
        finally:
            self.in_flight -= 1
        if fate.failure is not None:
            raise fate.failure
        return an_answer()

    async def steps(self, at_once: int, most: int | None = None) -> list[Step]:
        steps = list[Step]()
        composed = compose(self.plans, a_context(), self.fetch, self.found, at_once=at_once)
        async with aclosing(composed):
            async for step in composed:
                assert step is not None
                steps.append(step)
                if len(steps) == most:
                    break
        return steps

    def modelled(self, at_once: int) -> tuple[list[tuple[float, Name]], dict[int, list[str]]]:
        """What is asked when, and what lands of each plan: by a queue, and a list of what runs."""
        waiting = [
            (plan, name)
            for plan in self.plans
            for name in plan.questions
            if not self.fates[plan.subject, name].stored
        ]
        running = list[tuple[float, Plan, str]]()
        landed = {plan.subject: list(self.found(plan)) for plan in self.plans}
        decided, began, clock = set[int](), [], 0.0
        while waiting or running:
            while waiting and len(running) < at_once:
                plan, name = waiting.pop(0)
                if plan.subject not in decided:
                    key = plan.subject, name
                    began.append((clock, key))
                    running.append((clock + self.fates[key].seconds, plan, name))
            if running:
                clock, plan, name = over = min(running, key=lambda one: one[0])
                running.remove(over)
                landed[plan.subject].append(name)
                failure = self.fates[plan.subject, name].failure
                if isinstance(failure, NotFound) or (failure and name in plan.required):
                    decided.add(plan.subject)
                    running = [one for one in running if one[1] is not plan]
        return began, landed


PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47)
"""No sums of their roots are equal, so no two questions end at the same time, and order is sure."""
ENDINGS = (None, None, None, Unreachable("broken"), Timeout("late"), NotFound("nobody"))


@st.composite
def worlds(draw: st.DrawFn, seconds: Sequence[float]) -> World:
    times = iter(draw(st.permutations(seconds)))
    plans = list[Plan]()
    fates = dict[Name, Fate]()
    for subject in range(draw(st.integers(1, len(seconds) // 3))):
        asked = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        plans.append(a_plan(subject, asked, draw(st.lists(st.sampled_from(asked)))))
        for name in asked:
            stored = draw(st.integers(0, 3)) == 0
            ends = None if stored else draw(st.sampled_from(ENDINGS))
            fates[subject, name] = Fate(next(times), ends, stored)
    return World(plans, fates)


def outcomes(steps: Sequence[Step]) -> dict[int, Outcomes]:
    return {step.run.plan.subject: step.run.outcomes for step in steps}


@given(worlds([sqrt(prime) for prime in PRIMES]), st.integers(1, 8))
def test_it_goes_as_a_queue_and_a_clock_would_have_it(world: World, at_once: int) -> None:
    async def main() -> None:
        async with leaving_nothing():
            steps = await world.steps(at_once)
        began, landed = world.modelled(at_once)
        assert [name for _, name in world.began] == [name for _, name in began]
        assert [time for time, _ in world.began] == pytest.approx([time for time, _ in began])
        assert {of: list(outcome) for of, outcome in outcomes(steps).items()} == landed

    on_virtual_time(main)


@given(worlds([0, 0, 0, *[1] * 6, *[2] * 6]), st.integers(1, 8))
def test_each_plan_has_one_last_step_and_each_outcome_one_step(world: World, at_once: int) -> None:
    """Here much happens at the same time."""

    async def main() -> None:
        async with leaving_nothing():
            steps = await world.steps(at_once)
        assert (world.in_flight, world.most <= at_once) == (0, True)
        assert sorted(one.run.plan.subject for one in steps if one.last) == [
            plan.subject for plan in world.plans
        ]
        landed = [(step.run.plan.subject, name) for step in steps for name in step.completed]
        assert len(landed) == len(set(landed))
        kept = {
            (of, name): one for of, all_ in outcomes(steps).items() for name, one in all_.items()
        }
        assert set(landed) == set(kept)
        for name, outcome in kept.items():
            assert outcome.result == (world.fates[name].failure or an_answer())

    on_virtual_time(main)


@given(worlds([0, 0, 0, *[1] * 6, *[2] * 6]), st.integers(1, 8), st.integers(1, 20))
def test_whoever_leaves_early_leaves_nothing_behind(world: World, at_once: int, most: int) -> None:
    async def main() -> None:
        async with leaving_nothing():
            await world.steps(at_once, most)
        assert world.in_flight == 0

    on_virtual_time(main)


async def test_what_is_stored_is_told_while_the_rest_is_on_its_way() -> None:
    plans = [a_plan(0), a_plan(1)]
    fates = {(of, name): Fate(9.0, stored=of == 1) for of in (0, 1) for name in NAMES}
    world = World(plans, {**fates, (0, "posts"): Fate(stored=True)})
    seen = list[tuple[float, Name, bool]]()
    async for step in compose(plans, a_context(), world.fetch, world.found, at_once=2):
        assert step is not None
        seen += [(now(), (step.run.plan.subject, name), step.last) for name in step.completed]
    assert [time for time, _ in world.began] == [0.0, 0.0]
    assert seen[0] == (0.0, (0, "posts"), False)
    # There is no room for anything more, and it takes none.
    assert seen[1:4] == [(0.0, (1, name), True) for name in NAMES]
    assert [time for time, _, _ in seen[4:]] == [9.0, 9.0]


async def test_a_plan_is_begun_when_there_is_room_for_it() -> None:
    taken = list[float]()

    def plans() -> Iterator[Plan]:
        for subject in range(6):
            taken.append(now())
            yield a_plan(subject, ["posts"])

    upstream = FakeUpstream(seconds=1)
    async for _ in compose(plans(), a_context(), upstream, lambda _: {}, at_once=2):
        # One waits at the door.
        assert len(taken) <= len(upstream.began) + 1
    assert upstream.began == [0, 0, 1, 1, 2, 2]
    assert taken == [0, 0, 0, 1, 1, 2]


async def test_plans_that_are_over_are_held_by_nobody() -> None:
    class Questions(dict[str, Question]):
        """To be watched, which a plain dict cannot be."""

    counting_attempts = WeakValueDictionary[int, Questions]()

    def plans() -> Iterator[Plan]:
        for subject in range(100):
            questions = Questions(a_plan(subject).questions)
            counting_attempts[subject] = questions
            yield Plan(A_VIEW, subject, questions, frozenset())

    over = most = 0
    async for step in compose(plans(), a_context(), FakeUpstream(1), lambda _: {}, at_once=6):
        assert step is not None
        over += step.last
        most = max(most, len(counting_attempts))
    assert over == 100
    assert most <= 6


@pytest.mark.parametrize("at_once", [1, 2, 6])
async def test_a_bug_is_raised_and_ends_all_that_is_under_way(at_once: int) -> None:
    upstream, bug = FakeUpstream(seconds=60), ZeroDivisionError("ours")

    async def fetch(call: Call) -> Answer:
        if name_of(call) == (0, "user"):
            await asyncio.sleep(1)
            raise bug
        return await upstream(call)

    async def composed() -> None:
        plans = [a_plan(0, required=NAMES), a_plan(1), a_plan(2)]
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
async def test_a_silence_is_told_after_each_while_of_it(
    heartbeat: float | None, steps: list[tuple[float, bool]]
) -> None:
    fates = {(0, name): Fate(time) for name, time in zip(NAMES, (2.5, 4.0, 4.3), strict=True)}
    world = World([a_plan(0)], fates)
    seen = list[tuple[float, bool]]()
    composed = compose(
        world.plans, a_context(), world.fetch, world.found, at_once=3, heartbeat=heartbeat
    )
    async for step in composed:
        seen.append((round(now(), 3), step is not None))
    assert seen == steps


async def test_nothing_comes_of_a_plan_after_its_last_step() -> None:
    fates = {(0, "user"): Fate(1, NotFound("nobody")), (0, "posts"): Fate(stored=True)}
    world = World([a_plan(0)], {**fates, (0, "todos"): Fate()})
    assert [step.last for step in await world.steps(at_once=1)] == [False, True]
