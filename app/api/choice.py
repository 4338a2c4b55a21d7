"""Which sections a client wants, and which it cannot do without."""

from collections.abc import Collection
from typing import Annotated, get_args

from fastapi import Query
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, Field

from app.views.overview import SectionName


def _split(value: object) -> object:
    """`include=posts,todos` and `include=posts&include=todos` are the same."""
    if isinstance(value, list):
        return [part for text in value for part in str(text).split(",")]
    return value


_Names = Annotated[list[SectionName], BeforeValidator(_split), Field(min_length=1)] | None

Include = Annotated[
    _Names, Query(description="The sections wanted, repeated or comma separated; default: all")
]
Require = Annotated[
    _Names, Query(description="Sections without which the answer is worthless; default: none")
]


def parse_sections(
    include: list[SectionName] | None, require: list[SectionName] | None
) -> tuple[Collection[SectionName], Collection[SectionName]]:
    """What is wanted and what is required, which must be a part of it."""
    wanted = include or get_args(SectionName)
    for name in require or ():
        if name not in wanted:
            raise RequestValidationError(
                [{"loc": ("query", "require"), "msg": f"{name} is required but not included"}]
            )
    return wanted, require or ()
