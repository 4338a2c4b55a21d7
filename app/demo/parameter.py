"""The demo's faults as a documented parameter of the service, in demo mode only."""

from typing import Annotated

from fastapi import Header
from pydantic import AfterValidator

from app.demo.faults import parse_faults

FAULT_HEADER = "x-demo-fault"


def _known(value: str) -> str:
    parse_faults(value)
    return value


async def demo_fault(
    x_demo_fault: Annotated[
        Annotated[str, AfterValidator(_known)] | None,
        Header(
            alias="X-Demo-Fault",
            description="**Demo only.** Makes sections misbehave: `section=fault`, comma "
            "separated. Faults: `slow`, `failing`, `malformed`, `bad_item`, `missing`",
            examples=["posts=slow, todos=malformed"],
        ),
    ] = None,
) -> None:
    """Validate the header; it reaches the demo like any forwarded header."""
