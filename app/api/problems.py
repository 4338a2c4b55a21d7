"""Every answer that is not a success is a problem (RFC 9457), and every problem is explained."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.api.problem_types import KINDS
from app.views.overview import Sections
from app.views.timeline import Timeline

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, in the standard members of RFC 9457."""

    type: Annotated[str, Field(description="Where this kind of problem is explained")]
    title: str
    status: int
    detail: str
    instance: Annotated[str | None, Field(description="The path that was asked for")] = None


class WrongParameter(BaseModel):
    """One parameter that could not be used."""

    parameter: str
    location: Annotated[str, Field(description="`path`, `query` or `header`")]
    detail: str


class InvalidRequest(Problem):
    """The request itself is wrong; `errors` names every parameter at fault."""

    status: Literal[422]
    errors: list[WrongParameter]


class UserNotFound(Problem):
    """There is no such user, and so there are no sections."""

    status: Literal[404]
    timeline: Timeline = None


class OverviewFailed(Problem):
    """The answer as a whole is a failure; `sections` has what became of each part."""

    status: Literal[502, 503, 504]
    sections: Sections
    timeline: Timeline = None


class ProblemType(BaseModel):
    """What a kind of problem means, and what to do about it."""

    type: str
    title: str
    status: int
    meaning: str
    what_to_do: str


_BY_STATUS = {404: "no_such_route", 405: "method_not_allowed"}


def problem(
    slug: str,
    detail: str,
    *,
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
    errors: list[WrongParameter] | None = None,
) -> Response:
    """A problem of a known kind, as a response."""
    return respond(slug, problem_json(slug, detail, instance=instance, errors=errors), headers)


def respond(slug: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A problem that is JSON already, as a response."""
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(body, KINDS[slug].status, headers, media_type=MEDIA_TYPE)


def problem_json(
    slug: str,
    detail: str,
    *,
    instance: str | None = None,
    errors: list[WrongParameter] | None = None,
    sections: Mapping[str, bytes] | None = None,
    timeline: bytes | None = None,
) -> bytes:
    """A problem of a known kind. `sections` and `timeline` are JSON already."""
    kind = KINDS[slug]
    members: dict[str, object] = {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }
    if instance is not None:
        members["instance"] = instance
    if errors is not None:
        members["errors"] = errors
    body = to_json(members)
    if sections is not None:
        told = b",".join(b'"%b":%b' % (name.encode(), text) for name, text in sections.items())
        body = b'%b,"sections":{%b}}' % (body[:-1], told)
    if timeline is not None:
        body = b'%b,"timeline":%b}' % (body[:-1], timeline)
    return body


router = APIRouter(tags=["Problems"])


@router.get(
    "/problems/{slug}",
    summary="What a problem means",
    response_description="The kind of problem, explained",
    responses={404: {"model": Problem, "description": "There is no such kind of problem"}},
)
async def explain(slug: str) -> ProblemType:
    """Explain a kind of problem: the `type` of every error points here."""
    kind = KINDS.get(slug)
    if kind is None:
        raise HTTPException(
            404, f"there is no kind of problem called so; known: {', '.join(KINDS)}"
        )
    return ProblemType(
        type=f"/problems/{slug}",
        title=kind.title,
        status=kind.status,
        meaning=kind.meaning,
        what_to_do=kind.what_to_do,
    )


def handle_problems(app: FastAPI) -> None:
    """Turn what FastAPI and Starlette raise into problems."""

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        # One word a parameter: of a list, the first item that is wrong speaks for all.
        wrong = {tuple(one["loc"][:2]): one["msg"] for one in reversed(error.errors())}
        errors = [_wrong(loc, message) for loc, message in reversed(wrong.items())]
        detail = "; ".join(
            f"{one.location} parameter {one.parameter}: {one.detail}" for one in errors
        )
        return problem("invalid_request", detail, instance=request.url.path, errors=errors)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        slug = _BY_STATUS[error.status_code]
        headers = dict(error.headers or {})
        if "Allow" in headers:  # what GET answers, HEAD answers too: see the envelope
            headers["Allow"] = ", ".join(sorted({*headers["Allow"].split(", "), "HEAD"}))
        said = isinstance(error, HTTPException)
        detail = error.detail if said else HTTPStatus(error.status_code).description
        return problem(slug, detail, instance=request.url.path, headers=headers)

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(StarletteHTTPException, refused)


def _wrong(loc: tuple[int | str, ...], message: str) -> WrongParameter:
    location, name = str(loc[0]), str(loc[1]) if len(loc) > 1 else ""
    return WrongParameter(
        parameter=name, location=location, detail=message.removeprefix("Value error, ")
    )
