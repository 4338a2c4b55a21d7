"""The OpenAPI document: what FastAPI writes, with problems under their own media type."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from app.api.openapi.responses import BATCH, INVALID_PARAMETER, MALFORMED, OVERVIEW, Responses
from app.api.responses import revalidated
from app.composition.models import view_models
from app.json_schema import plain
from app.problems.responses import MEDIA_TYPE, Problem
from app.settings import Settings
from app.views.overview import overview

_VERSIONS = {"3.1": "3.1.0", "3.2": "3.2.0"}
"""3.1 has what a generated client asks for, 3.2 also the streams: it is the first with words for
their items (`itemSchema`)."""

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}

_DESCRIPTION = """
One request fetches a user, their posts and their todos from several upstreams at once. Each section
of the answer is `ok`, `failed` or `skipped`; a failed one says why, and whether and where a retry
may help. Nothing is silently missing.

Every error is `application/problem+json` (RFC 9457), and its `type` is a path that explains it.
"""


def install(app: FastAPI, settings: Settings) -> None:
    """Serve at `/openapi.json` what is really sent, in the version that every generator reads."""
    versions = {version: _document(app, settings, version) for version in _VERSIONS}
    app.openapi = lambda: versions["3.1"]  # type: ignore[method-assign]  # FastAPI's documented way
    bodies = {version: to_json(document) for version, document in versions.items()}

    async def openapi_json(request: Request) -> Response:
        version = request.query_params.get("version", "3.1")
        if version not in bodies:
            raise RequestValidationError(
                [{"loc": ("query", "version"), "msg": f"Input should be {' or '.join(bodies)}"}]
            )
        return revalidated(request, bodies[version], "application/json")

    app.add_route("/openapi.json", openapi_json, include_in_schema=False)


def _document(app: FastAPI, settings: Settings, version: str) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=_DESCRIPTION,
        openapi_version=_VERSIONS[version],
        routes=app.routes,
        servers=[{"url": settings.root_path or "/"}],
        contact={"name": "The developers of Tributary"},
        license_info={"name": "MIT", "identifier": "MIT"},
        tags=[
            {"name": "Views", "description": "The answers composed from many upstreams"},
            {"name": "Health", "description": "For load balancers and orchestrators"},
            {"name": "Problems", "description": "What each problem type means"},
        ],
    )
    document["security"] = []
    for path in document["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            responses.setdefault("400", {"description": MALFORMED, "content": _PROBLEM})
            _set_problem_media_type(responses)
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = plain(_never_null(parameter["schema"]))
                parameter["schema"].pop("description", None)  # it is the parameter's
            operation["responses"] = dict(sorted(responses.items()))
    for path, documented in {overview.path: OVERVIEW, overview.batch: BATCH}.items():
        responses = document["paths"][path]["get"]["responses"]
        _restore_examples(documented, responses)
    if version == "3.1":
        for path in document["paths"].values():
            _keep_bodies_of_one_type(path["get"]["responses"])
    user_ids = document["paths"][overview.batch]["get"]["parameters"][0]
    user_ids["schema"]["maxItems"] = settings.batch_max
    models = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        models.pop(unused, None)
    view = view_models(overview)
    events = (view.section_event, view.done_event) if version == "3.2" else ()
    _add_models(models, *events, Problem)
    for name, model in models.items():
        for member, schema in model.get("properties", {}).items():
            if member not in model.get("required", ()):
                model["properties"][member] = _never_null(schema)
        models[name] = plain(model)
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


def _keep_bodies_of_one_type(responses: dict[str, Any]) -> None:
    """Leave out what only a client that asks for it by a header gets: streams, 204 and 304.

    Generators make one type of all that an operation can answer: `string | Overview | void`.
    """
    for status in [status for status, response in responses.items() if "content" not in response]:
        del responses[status]
    content = responses["200"]["content"]
    responses["200"]["content"] = {"application/json": content["application/json"]}


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
