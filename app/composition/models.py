"""A view on the wire, as pydantic models made from its sections.

They document answers, and tests validate answers by them. An answer itself is joined from JSON
(`ViewResult`), never made of these.
"""

from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel, create_model

from app.composition.section import Failed, Ok, Skipped
from app.composition.timeline import Timeline
from app.composition.view import View
from app.problems.responses import InternalError, Problem

Model = type[BaseModel]


@dataclass(frozen=True, slots=True)
class ViewModels:
    """`not_found` and `failed` are the problems that an answer can be; `item` is one of a batch."""

    answer: Model
    not_found: Model
    failed: Model
    section_event: Model
    done_event: Model
    item: Model
    batch: Model


@cache
def view_models(view: View) -> ViewModels:
    sections = {name: _section(name, section.data) for name, section in view.sections.items()}
    subject = view.identifier.removesuffix("_id")
    all_sections = create_model(
        "Sections",
        __doc__=f"Every section of the {view.name}; the key set never changes.",
        **_required(sections),
    )
    answer = create_model(
        view.name.title(),
        __base__=all_sections,
        __doc__=f"The {view.name} of one {subject}, complete or not.",
        **_required(
            {
                view.identifier: view.identifier_type,
                "complete": _described(
                    bool, "Every included section is ok, not stale, and dropped nothing"
                ),
            }
        ),
        timeline=(Timeline, None),
    )
    not_found = create_model(
        f"{subject.title()}NotFound",
        __base__=Problem,
        __doc__=f"There is no such {subject}, and so there are no sections.",
        **_required({"status": Literal[404]}),
        timeline=(Timeline, None),
    )
    failed = create_model(
        f"{view.name.title()}Failed",
        __base__=Problem,
        __doc__="The answer as a whole failed; `sections` has the outcome of each part.",
        **_required({"status": Literal[401, 403, 502, 503, 504], "sections": all_sections}),
        timeline=(Timeline, None),
    )
    item = _item(view, subject, answer, failed | not_found)
    batch = create_model(
        "Batch",
        __doc__=f"Many {view.name}s, in the order of the request.",
        **_required(
            {
                "complete": _described(bool, "Every item is ok, and complete"),
                "items": list[item],  # type: ignore[valid-type]  # known at run time
            }
        ),
    )
    section_event, done_event = _section_event(sections), _done_event(view, failed | not_found)
    return ViewModels(answer, not_found, failed, section_event, done_event, item, batch)


def _section(name: str, data: Any) -> Model:
    ok = create_model(
        f"{name.title()}Ok", __base__=Ok[data], __doc__=f"The section `{name}` with its data."
    )
    doc = f"The section `{name}`, as its `status` says."
    return _union(f"{name.title()}Section", doc, "status", [ok, Failed, Skipped])


def _section_event(sections: dict[str, Model]) -> Model:
    events = [
        create_model(
            f"{name.title()}Landed", **_required({"name": Literal[name], "section": section})
        )
        for name, section in sections.items()
    ]
    return _union("SectionEvent", "The data of `event: section`.", "name", events)


def _done_event(view: View, failure: Any) -> Model:
    error = _described(
        failure | InternalError | None,
        "The problem that the JSON answer would be, if it would be one",
    )
    status = _described(int, "The status of the JSON answer")
    return create_model(
        "DoneEvent",
        __doc__="The data of `event: done`, the last one.",
        **_required({view.identifier: view.identifier_type, "complete": bool, "status": status}),
        error=(error, None),
        timeline=(Timeline, None),
    )


def _item(view: View, subject: str, answer: Model, error: Any) -> Model:
    identifier = {view.identifier: view.identifier_type}
    ok = create_model(
        "ItemOk",
        __doc__=f"One {subject}'s {view.name}, complete or not.",
        **_required(identifier | {"status": Literal["ok"], view.name: answer}),
    )
    failed = create_model(
        "ItemFailed",
        __doc__=f"The problem that this {subject}'s {view.name} would be on its own.",
        **_required(identifier | {"status": Literal["failed"], "error": error}),
    )
    doc = f"One {subject}'s {view.name}, or the problem in its place."
    return _union("BatchItem", doc, "status", [ok, failed])


def _union(name: str, doc: str, discriminator: str, models: list[Model]) -> Model:
    """A union of `models`, with their common `discriminator`."""
    union: Any = Annotated[reduce(or_, models), Field(discriminator=discriminator)]
    return create_model(name, __base__=RootModel[union], __doc__=doc)


def _required(types: dict[str, Any]) -> dict[str, Any]:
    return {name: (annotation, ...) for name, annotation in types.items()}


def _described(annotation: Any, text: str) -> Any:
    return Annotated[annotation, Field(description=text)]
