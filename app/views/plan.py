"""A plan of named questions, and what their outcomes come to."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.errors import Failure, NotFound
from app.resilience.call import Answer, Question, Tally


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for one answer: no I/O, nothing of the client but what it wants.

    `subject` is the identifier that all questions are about. `sections` are all names of the
    view, in order; `questions` those that are included. Without a section in `required`, the
    answer is worthless.
    """

    subject: int
    sections: tuple[str, ...]
    questions: Mapping[str, Question]
    required: frozenset[str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one question went; `seconds` since it was asked."""

    result: Answer | Failure
    tally: Tally
    seconds: float


Outcomes = Mapping[str, Outcome]


def is_complete(plan: Plan, outcomes: Outcomes) -> bool:
    """Whether every section that was wanted is there, with all of its data."""
    return len(outcomes) == len(plan.questions) and all(
        isinstance(one.result, Answer) and not one.result.stale and one.result.data.dropped == 0
        for one in outcomes.values()
    )


def failures(plan: Plan, outcomes: Outcomes) -> Iterator[tuple[str, Failure]]:
    """The sections that failed, in the order of the view."""
    for name in plan.sections:
        outcome = outcomes.get(name)
        if outcome is not None and isinstance(outcome.result, Failure):
            yield name, outcome.result


def stale(outcomes: Outcomes) -> list[str]:
    """The sections that are last good data, because their upstream could not be asked."""
    return [
        name
        for name, one in outcomes.items()
        if isinstance(one.result, Answer) and one.result.stale
    ]


def verdict(plan: Plan, outcomes: Outcomes) -> Failure | None:
    """The failure that makes the whole a failure, or None: then the answer is a 200.

    In this order: what all is about does not exist; a required section failed; everything
    failed, told by the failure with the highest status (504 before 503 before 502).
    """
    failed = dict(failures(plan, outcomes))
    for failure in failed.values():
        if isinstance(failure, NotFound):
            return failure
    for name, failure in failed.items():
        if name in plan.required:
            return failure
    if len(failed) == len(plan.questions):
        return max(failed.values(), key=lambda failure: failure.status)
    return None
