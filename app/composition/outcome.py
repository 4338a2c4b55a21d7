"""How the questions of a plan went."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.call import Answer, Call, Context, Tally
from app.composition.view import Plan
from app.errors import Failure


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
