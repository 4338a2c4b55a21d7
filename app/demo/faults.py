"""The faults of the demo, which a client requests: `X-Demo-Fault: posts=slow, todos=malformed`."""

from collections.abc import Mapping
from typing import Literal, TypeGuard, get_args

Section = Literal["user", "posts", "todos"]
Fault = Literal["slow", "failing", "malformed", "bad_item", "missing"]


class UnknownFault(ValueError):
    """The header names something that the demo cannot do; the message says what it can."""


def parse_faults(header: str) -> Mapping[Section, Fault]:
    """The fault of each section in the header; of a section that is named twice, the last."""
    faults: dict[Section, Fault] = {}
    for item in filter(None, map(str.strip, header.split(","))):
        section, _, fault = (part.strip() for part in item.partition("="))
        if not _is_section(section):
            raise UnknownFault(f"{section!r} is no section: {', '.join(get_args(Section))}")
        if not _is_fault(fault):
            raise UnknownFault(f"{fault!r} is no fault: {', '.join(get_args(Fault))}")
        faults[section] = fault
    return faults


def _is_section(name: str) -> TypeGuard[Section]:
    return name in get_args(Section)


def _is_fault(name: str) -> TypeGuard[Fault]:
    return name in get_args(Fault)
