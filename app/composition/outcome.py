"""How the questions of a plan went, and what fits into an answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from app.call import Answer, Call, Context, Tally
from app.composition.view import Plan
from app.errors import Failure, Overloaded


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question went; `seconds` since it was asked."""

    result: Answer | Failure
    tally: Tally
    seconds: float


Outcomes = Mapping[str, Outcome]
"""By section. What was not asked, or was cancelled, is missing."""

Lookup = Callable[[Call], Answer | None]


def cached_outcomes(plan: Plan, context: Context, lookup: Lookup) -> dict[str, Outcome]:
    """The outcomes that the cache has: those need no waiting and no task."""
    outcomes: dict[str, Outcome] = {}
    for name, question in plan.questions.items():
        call = Call(question, context)
        answer = lookup(call)
        if answer is not None:
            outcomes[name] = Outcome(answer, call.tally, 0.0)
    return outcomes


def data_size(outcomes: Outcomes) -> int:
    """The bytes of all data."""
    return sum(map(_size, outcomes.values()))


def within(plan: Plan, outcomes: Outcomes, room: int) -> Outcomes:
    """Those whose data fit into `room` bytes, in the order of the plan; the others fail."""
    fitting: dict[str, Outcome] = {}
    for name in plan.questions:
        outcome = outcomes.get(name)
        if outcome is None:
            continue
        size = _size(outcome)
        if size > room:
            outcome = replace(outcome, result=_too_large())
        else:
            room -= size
        fitting[name] = outcome
    return fitting


def none_within(plan: Plan) -> Outcomes:
    """The outcomes of a plan for whose data there was no room from the start."""
    return {name: Outcome(_too_large(), Tally(), 0.0) for name in plan.questions}


def without_data(outcome: Outcome) -> Outcome:
    """The outcome as headers describe it, in little memory."""
    if isinstance(outcome.result, Failure):
        return outcome
    data = replace(outcome.result.data, json=b"")
    return replace(outcome, result=replace(outcome.result, data=data))


def _size(outcome: Outcome) -> int:
    return len(outcome.result.data.json) if isinstance(outcome.result, Answer) else 0


def _too_large() -> Overloaded:
    return Overloaded("the answer would be too large")
