"""The OpenAPI document: what FastAPI writes, with problems under their own media type."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api.openapi.responses import BATCH, INVALID_PARAMETER, OVERVIEW, Responses
from app.composition.models import view_models
from app.problems.responses import MEDIA_TYPE
from app.settings import Settings
from app.views.overview import overview

_DESCRIPTION = """
One request fetches a user, their posts and their todos from several upstreams at once. Each section
of the answer is `ok`, `failed` or `skipped`; a failed one says why, and whether and where a retry
may help. Nothing is silently missing.

Every error is `application/problem+json` (RFC 9457), and its `type` is a path that explains it.
"""


def install(app: FastAPI, settings: Settings) -> None:
    """Make `app.openapi()` describe what is really sent."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, settings)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _document(app: FastAPI, settings: Settings) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        openapi_version="3.2.0",  # the first that has `itemSchema`
        routes=app.routes,
        tags=[
            {"name": "Views", "description": "The answers composed from many upstreams"},
            {"name": "Health", "description": "For load balancers and orchestrators"},
            {"name": "Problems", "description": "What each problem type means"},
        ],
    )
    for path in document["paths"].values():
        for operation in path.values():
            _set_problem_media_type(operation["responses"])
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _never_null(parameter["schema"])
    for path, responses in {overview.path: OVERVIEW, overview.batch: BATCH}.items():
        _restore_examples(responses, document["paths"][path]["get"]["responses"])
    user_ids = document["paths"][overview.batch]["get"]["parameters"][0]
    user_ids["schema"]["maxItems"] = settings.batch_max
    models = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    view = view_models(overview)
    _add_models(models, view.section_event, view.done_event)
    for model in models.values():
        for name, member in model.get("properties", {}).items():
            if name not in model.get("required", ()):
                model["properties"][name] = _never_null(member)
    return document


def _set_problem_media_type(responses: dict[str, Any]) -> None:
    """FastAPI puts every declared model under `application/json`."""
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= "400" and "application/json" in content:
            schema = content.pop("application/json")
            content.setdefault(MEDIA_TYPE, {}).update(schema)
        if status == "422":  # FastAPI's own shape, where a route does not document ours
            content[MEDIA_TYPE]["schema"] = {"$ref": "#/components/schemas/InvalidRequest"}
            response["description"] = INVALID_PARAMETER


def _add_models(models: dict[str, Any], *added: type[BaseModel]) -> None:
    """Add what occurs in streams only, which FastAPI does not see."""
    _, described = models_json_schema(
        [(model, "serialization") for model in added], ref_template="#/components/schemas/{model}"
    )
    for name, model in described["$defs"].items():
        models.setdefault(name, model)


def _restore_examples(documented: Responses, responses: dict[str, Any]) -> None:
    """FastAPI leaves out whatever is null, in examples too: `retry_after` is there, and null."""
    for status, response in documented.items():
        for media_type, content in response.get("content", {}).items():
            responses[str(status)]["content"][media_type]["examples"] = content["examples"]


def _never_null(schema: dict[str, Any]) -> dict[str, Any]:
    """What can be left out is never null: not in a URL or a header, nor in our answers."""
    match schema:
        case {"anyOf": [*kept, {"type": "null"}], **rest}:
            rest.pop("default", None)
            return {**(kept[0] if len(kept) == 1 else {"anyOf": kept}), **rest}
    return schema
