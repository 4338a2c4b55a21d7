"""Every answer that is not a success is a problem, and every problem is explained."""

from http import HTTPStatus

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.problems.responses import Problem, WrongParameter, problem
from app.problems.types import KINDS, type_url

_BY_STATUS = {404: "no_such_route", 405: "method_not_allowed"}


def install(app: FastAPI) -> None:
    """Explain problems at `/problems/{slug}`, and make problems of what FastAPI raises."""
    app.include_router(_router)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StarletteHTTPException, _on_refusal)


class ProblemType(BaseModel):
    """What a kind of problem means, and what to do about it."""

    type: str
    title: str
    status: int
    meaning: str
    what_to_do: str


_router = APIRouter(tags=["Problems"])


@_router.get(
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
        type=type_url(slug),
        title=kind.title,
        status=kind.status,
        meaning=kind.meaning,
        what_to_do=kind.what_to_do,
    )


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # One message a parameter: of a list, the first item that is wrong stands for all.
    wrong = {tuple(one["loc"][:2]): one["msg"] for one in reversed(error.errors())}
    errors = [_wrong_parameter(loc, message) for loc, message in reversed(wrong.items())]
    detail = "; ".join(f"{one.location} parameter {one.parameter}: {one.detail}" for one in errors)
    return problem("invalid_request", detail, instance=request.url.path, errors=errors)


async def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    slug = _BY_STATUS[error.status_code]
    headers = dict(error.headers or {})
    if "Allow" in headers:  # what GET answers, HEAD answers too: see the request middleware
        headers["Allow"] = ", ".join(sorted({*headers["Allow"].split(", "), "HEAD"}))
    is_ours = isinstance(error, HTTPException)
    detail = error.detail if is_ours else HTTPStatus(error.status_code).description
    return problem(slug, detail, instance=request.url.path, headers=headers)


def _wrong_parameter(loc: tuple[int | str, ...], message: str) -> WrongParameter:
    location, name = str(loc[0]), str(loc[1]) if len(loc) > 1 else ""
    return WrongParameter(
        parameter=name, location=location, detail=message.removeprefix("Value error, ")
    )
