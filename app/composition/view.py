"""A view: named sections, each with the model of its data and the question that gets them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.call import Question


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a view. `data` is a pydantic model, or a list of one; `example` is such data."""

    data: Any
    question: Callable[[int], Question]
    example: Any


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What can be asked for as one answer, or many of them at `batch`.

    `identifier` is the parameter in `path`, and repeated in the query of a batch.
    """

    name: str
    path: str
    batch: str
    identifier: str
    identifier_type: Any
    sections: Mapping[str, Section]

    def plan(self, subject: int, include: Iterable[str], require: Iterable[str]) -> "Plan":
        """What to ask when a client wants `include` and cannot do without `require`."""
        included = set(include)
        return Plan(
            view=self,
            subject=subject,
            questions={
                name: section.question(subject)
                for name, section in self.sections.items()
                if name in included
            },
            required=frozenset(require),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for one answer: no I/O, nothing of the client but what it wants.

    `subject` is the identifier that all questions are about. `questions` are those of the sections
    that are included, in the order of the view. Without a section in `required`, the answer is
    worthless.
    """

    view: View
    subject: int
    questions: Mapping[str, Question]
    required: frozenset[str]

    @property
    def href(self) -> str:
        """Where this answer is to be had."""
        return self.view.path.format(**{self.view.identifier: self.subject})
