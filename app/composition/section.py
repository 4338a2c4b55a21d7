"""A section on the wire: `ok`, `failed` or `skipped`.

The classes document what clients may rely on. An `ok` section is never made into such an object:
its data are validated JSON already, and go into the answer as bytes.
"""

import time
from functools import lru_cache
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from app.call import Answer
from app.composition.outcome import Outcome
from app.composition.view import Plan
from app.errors import Failure, Reason
from app.json_bytes import json_bool, json_object
from app.problems.types import type_url

T = TypeVar("T")


class Ok(BaseModel, Generic[T]):
    """The section with its data."""

    status: Literal["ok"]
    data: T
    stale: Annotated[
        bool, Field(description="Last good data, because the upstream could not be asked")
    ]
    dropped: Annotated[
        int, Field(ge=0, description="List items left out because they break the model")
    ]
    as_of: Annotated[
        str,
        Field(
            description="When the data were good (RFC 3339, UTC)",
            json_schema_extra={"format": "date-time"},
        ),
    ]


class SectionError(BaseModel):
    """Why a section failed, in the members of a problem (RFC 9457) and a few more."""

    type: Annotated[str, Field(description="Where this problem type is explained")]
    title: str
    status: Annotated[int, Field(description="The HTTP status of this failure alone")]
    detail: str
    reason: Reason
    section: str
    attempts: Annotated[int, Field(ge=0, description="Exchanges begun with the upstream")]
    elapsed_ms: Annotated[int, Field(ge=0)]
    retryable: Annotated[bool, Field(description="Whether asking again may help")]
    retry_after: Annotated[
        float | None, Field(description="Seconds to wait before asking again, where known")
    ]
    href: Annotated[str, Field(description="The path of this section alone")]


class Failed(BaseModel):
    """The section has no data; `error` says why."""

    status: Literal["failed"]
    error: SectionError


class Skipped(BaseModel):
    """Not included, or cancelled because another section decided the answer."""

    status: Literal["skipped"]


FAILED_SIZE = 512
"""Bytes in an answer that a failed section hardly needs."""

SKIPPED = b'{"status":"skipped"}'


def render_section(name: str, outcome: Outcome | None, plan: Plan) -> bytes:
    """One section of an answer as JSON."""
    if outcome is None:
        return SKIPPED
    if isinstance(outcome.result, Answer):
        return _render_ok(outcome.result)
    return _render_failed(name, outcome.result, outcome, plan)


def _render_ok(answer: Answer) -> bytes:
    return json_object(
        {
            "status": b'"ok"',
            "data": answer.data.json,
            "stale": json_bool(answer.stale),
            "dropped": b"%d" % answer.data.dropped,
            "as_of": _timestamp(int(answer.as_of)),
        }
    )


@lru_cache(1024)
def _timestamp(seconds: int) -> bytes:
    return time.strftime('"%Y-%m-%dT%H:%M:%SZ"', time.gmtime(seconds)).encode()


def _render_failed(name: str, failure: Failure, outcome: Outcome, plan: Plan) -> bytes:
    attempts = outcome.tally.attempts
    tried = f", {attempts} attempts" if attempts > 1 else ""
    error = SectionError(
        type=type_url(failure.reason, plan.root_path),
        title=failure.title,
        status=failure.status,
        detail=f"{name}: {failure.detail}{tried}",
        reason=failure.reason,
        section=name,
        attempts=attempts,
        elapsed_ms=round(outcome.seconds * 1000),
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        href=f"{plan.root_path}{plan.path}?include={name}",
    )
    return Failed(status="failed", error=error).model_dump_json().encode()
