"""The responses of each route, by status, as FastAPI takes them."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from app.api.openapi import examples
from app.api.openapi.examples import Examples, Json
from app.composition.models import view_models
from app.problems.responses import MEDIA_TYPE, InvalidRequest
from app.views.overview import overview

Responses = dict[int | str, dict[str, Any]]

MALFORMED = "The request is not valid HTTP"
INVALID_PARAMETER = "A parameter is invalid; `errors` names it"

_MODELS = view_models(overview)


def _named(cases: Examples) -> dict[str, Json]:
    return {name: {"summary": summary, "value": value} for name, (summary, value) in cases.items()}


def _problem(model: type[BaseModel], description: str, cases: Examples) -> dict[str, Any]:
    return {
        "model": model,
        "description": description,
        "content": {MEDIA_TYPE: {"examples": _named(cases)}},
    }


def _stream(media_type: str, item: Json, item_schema: Json, cases: Examples) -> dict[str, Any]:
    """A stream of items; `itemSchema` is OpenAPI 3.2, where an event has more than its data."""
    return {
        "schema": {"type": "string", "contentMediaType": media_type, "contentSchema": item},
        "itemSchema": item_schema,
        "examples": _named(cases),
    }


def _ref(model: type[BaseModel]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _event(name: str, data: type[BaseModel]) -> Json:
    """The schema of one kind of event, as OpenAPI 3.2 and FastAPI write it."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": name},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": _ref(data),
            },
        },
    }


def _events(named: Iterable[tuple[str, object]]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in named)


def _lines(items: Iterable[object]) -> str:
    return "".join(f"{json.dumps(item)}\n" for item in items)


_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "X-Complete": "`true` if every included section has all of its data, else `false`",
        "X-Request-ID": "The request's own if it was valid, else a new one",
        "Cache-Control": "Complete answers may be stored; anything partial is `no-store`",
        "Cache-Status": "RFC 9211: a member for each section, by its upstream",
        "Server-Timing": "Milliseconds of each section and of the total; `hit`, `stale`, "
        "`coalesced`, `retry` or `hedge` where one was",
        "ETag": "On complete answers",
    }.items()
}

OVERVIEW: Responses = {
    200: {
        "headers": _HEADERS,
        "content": {
            "application/json": {"examples": _named(examples.OVERVIEWS)},
            "text/event-stream": _stream(
                "text/event-stream",
                {"oneOf": [_ref(_MODELS.section_event), _ref(_MODELS.done_event)]},
                {
                    "oneOf": [
                        _event("section", _MODELS.section_event),
                        _event("done", _MODELS.done_event),
                    ]
                },
                {
                    "as_they_land": (
                        "Todos first, then the user; the posts came too late",
                        _events(examples.EVENTS),
                    )
                },
            ),
        },
    },
    204: {"description": "An `EventSource` came back after the last event (`Last-Event-ID: done`)"},
    304: {"description": "The data are those that the ETag in If-None-Match names"},
    401: _problem(
        _MODELS.failed,
        "An upstream does not know the client, whose own headers were sent to it; as 502 otherwise",
        examples.UNAUTHORIZED,
    )
    | {"headers": {"WWW-Authenticate": {"schema": {"type": "string"}}}},
    403: _problem(_MODELS.failed, "As 401, and the client may not have it", examples.FORBIDDEN),
    404: _problem(_MODELS.not_found, "The user does not exist", examples.NOT_FOUND),
    422: _problem(InvalidRequest, INVALID_PARAMETER, examples.UNKNOWN_SECTION),
    502: _problem(
        _MODELS.failed,
        "A required section failed, or all did, without a usable answer from the upstream",
        examples.UNREACHABLE,
    ),
    503: _problem(
        _MODELS.failed,
        "As 502, because there is no capacity; Retry-After says when to ask again",
        examples.NO_CAPACITY,
    ),
    504: _problem(_MODELS.failed, "As 502, because the time was up", examples.NO_TIME),
}

BATCH: Responses = {
    200: {
        "headers": {
            name: header
            for name, header in _HEADERS.items()
            if name not in ("Cache-Status", "Server-Timing")
        },
        "content": {
            "application/json": {
                "examples": _named(
                    {
                        "one_user_is_unknown": (
                            "The second user does not exist; the first is not touched by it",
                            {"complete": False, "items": [examples.ITEM, examples.FAILED_ITEM]},
                        )
                    }
                )
            },
            "application/x-ndjson": _stream(
                "application/x-ndjson",
                _ref(_MODELS.item),
                _ref(_MODELS.item),
                {
                    "one_user_is_unknown": (
                        "The second user was decided first",
                        _lines([examples.FAILED_ITEM, examples.ITEM]),
                    )
                },
            ),
        },
    },
    304: OVERVIEW[304],
    422: _problem(InvalidRequest, INVALID_PARAMETER, examples.TOO_MANY),
}
