"""Exceptions become problems, and every problem type is explained at its own path."""

from http import HTTPStatus

from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from app.problems.page import problem_page, wants_page
from app.problems.responses import Problem, WrongParameter, problem
from app.problems.types import PROBLEM_TYPES, ProblemType


def install(app: FastAPI, root_path: str) -> None:
    """Explain problem types at `/problems/{slug}`, and answer FastAPI's errors with problems."""
    app.state.root_path = root_path
    app.include_router(_router)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(StarletteHTTPException, _on_http_exception)


_router = APIRouter(tags=["Problems"])
_VARY = {"Vary": "Accept, Accept-Encoding"}


@_router.get(
    "/problems/{slug}",
    summary="What a problem type means",
    response_model=ProblemType,
    response_description="The problem type, explained",
    responses={
        200: {"content": {"text/html": {"schema": {"type": "string"}}}},
        404: {"model": Problem, "description": "There is no such problem type"},
    },
)
async def explain(request: Request, response: Response, slug: str) -> ProblemType | Response:
    """Explain a problem type: the `type` of every problem points here."""
    problem_type = PROBLEM_TYPES.get(slug)
    if problem_type is None:
        known = ", ".join(PROBLEM_TYPES)
        raise HTTPException(404, f"there is no such problem type; known: {known}")
    root_path = request.app.state.root_path
    problem_type = problem_type.model_copy(update={"type": root_path + problem_type.type})
    if wants_page(request.headers.get("accept", "").lower()):
        return HTMLResponse(problem_page(problem_type), headers=_VARY)
    response.headers.update(_VARY)
    return problem_type


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # One message for each parameter: of a list with several invalid items, that of the first.
    wrong = {tuple(one["loc"][:2]): one["msg"] for one in reversed(error.errors())}
    errors = [_wrong_parameter(loc, message) for loc, message in reversed(wrong.items())]
    detail = "; ".join(f"{one.location} parameter {one.parameter}: {one.detail}" for one in errors)
    return problem(
        "invalid_request",
        detail,
        root_path=request.app.state.root_path,
        instance=request.url.path,
        errors=errors,
    )


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    slug = "method_not_allowed" if error.status_code == 405 else "no_such_route"
    headers = dict(error.headers or {})
    if error.status_code == 405:  # every route is for GET, and the middleware answers HEAD
        headers["Allow"] = "GET, HEAD, OPTIONS"
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
    is_ours = isinstance(error, HTTPException)
    detail = error.detail if is_ours else HTTPStatus(error.status_code).description
    return problem(
        slug,
        detail,
        root_path=request.app.state.root_path,
        instance=request.url.path,
        headers=headers,
    )


def _wrong_parameter(loc: tuple[int | str, ...], message: str) -> WrongParameter:
    location, name = str(loc[0]), str(loc[1]) if len(loc) > 1 else ""
    return WrongParameter(
        parameter=name, location=location, detail=message.removeprefix("Value error, ")
    )
