"""A problem (RFC 9457) as a model, as JSON and as a response."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.json_bytes import json_object
from app.problems.types import PROBLEM_TYPES, type_url

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, in the standard members of RFC 9457."""

    type: Annotated[str, Field(description="Where this problem type is explained")]
    title: str
    status: int
    detail: str
    instance: Annotated[str | None, Field(description="The path that was asked for")] = None


class WrongParameter(BaseModel):
    """One invalid parameter."""

    parameter: str
    location: Annotated[str, Field(description="`path`, `query` or `header`")]
    detail: str


class InternalError(Problem):
    """A mistake of the service itself."""

    status: Literal[500]


class InvalidRequest(Problem):
    """The request itself is invalid; `errors` names every invalid parameter."""

    status: Literal[422]
    errors: list[WrongParameter]


def problem(
    slug: str,
    detail: str,
    *,
    root_path: str = "",
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
    errors: list[WrongParameter] | None = None,
) -> Response:
    """A problem of a known type, as a response; `instance` is a path below `root_path`."""
    body = problem_json(slug, detail, root_path=root_path, instance=instance, errors=errors)
    return problem_response(slug, body, headers)


def problem_response(slug: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that is JSON already, as a response."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, PROBLEM_TYPES[slug].status, headers, media_type=MEDIA_TYPE)


def problem_json(
    slug: str,
    detail: str,
    *,
    root_path: str = "",
    instance: str | None = None,
    errors: list[WrongParameter] | None = None,
    sections: Mapping[str, bytes] | None = None,
    timeline: bytes | None = None,
) -> bytes:
    """A problem of a known type. `sections` and `timeline` are JSON already."""
    problem_type = PROBLEM_TYPES[slug]
    members = {
        "type": to_json(type_url(slug, root_path)),
        "title": to_json(problem_type.title),
        "status": b"%d" % problem_type.status,
        "detail": to_json(detail),
    }
    if instance is not None:
        members["instance"] = to_json(root_path + instance)
    if errors is not None:
        members["errors"] = to_json(errors)
    if sections is not None:
        members["sections"] = json_object(sections)
    if timeline is not None:
        members["timeline"] = timeline
    return json_object(members)
