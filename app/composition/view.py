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
    """What is served as one answer at `path`, and as many at `batch`.

    `identifier` is the parameter of `path`; in the query of a batch it is repeated.
    """

    name: str
    path: str
    batch: str
    identifier: str
    identifier_type: Any
    sections: Mapping[str, Section]

    def plan(
        self, subject: int, include: Iterable[str], require: Iterable[str], root_path: str = ""
    ) -> "Plan":
        """What to ask for the sections in `include`; those in `require` must not fail."""
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
            root_path=root_path,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask for one answer, whoever asks: no I/O, no deadline, no headers.

    `subject` is the value of the view's identifier. `questions` are those of the included sections,
    in the order of the view. If a section in `required` fails, the answer fails. A proxy shows the
    answer below `root_path`.
    """

    view: View
    subject: int
    questions: Mapping[str, Question]
    required: frozenset[str]
    root_path: str = ""

    @property
    def path(self) -> str:
        """The path of this answer."""
        return self.view.path.format(**{self.view.identifier: self.subject})
