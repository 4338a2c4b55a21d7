"""The cases a client has to know, each with a named example, as the OpenAPI document shows them."""

import json
from typing import Any

from pydantic import BaseModel

from app.api.problem_types import KINDS
from app.api.problems import MEDIA_TYPE, InvalidRequest, OverviewFailed, UserNotFound
from app.errors import CircuitOpen, Failure, Overloaded, Timeout, Unreachable

_USER = {
    "id": 1,
    "name": "Ada Rivers",
    "username": "ada",
    "email": "ada@tributary.example",
    "address": {
        "street": "Weir Lane",
        "suite": "Flat 2",
        "city": "Confluence",
        "zipcode": "10115",
        "geo": {"lat": "52.5300", "lng": "13.3800"},
    },
    "phone": "+49 30 901820",
    "website": "ada.example",
    "company": {"name": "Delta Works", "catchPhrase": "Where it all meets", "bs": "water"},
}
_POST = {"userId": 1, "id": 1, "title": "On confluence", "body": "Where two rivers meet."}
_TODO = {"userId": 1, "id": 1, "title": "Read the gauge", "completed": True}


def _ok(data: object, *, stale: bool = False) -> dict[str, Any]:
    return {
        "status": "ok",
        "data": data,
        "stale": stale,
        "dropped": 0,
        "as_of": "2026-11-22T13:00:00Z",
    }


def _failed(
    section: str,
    failure: type[Failure],
    detail: str,
    attempts: int = 3,
    retry_after: float | None = None,
) -> dict[str, Any]:
    tried = f", {attempts} attempts" if attempts > 1 else ""
    return {
        "status": "failed",
        "error": {
            "type": f"/problems/{failure.reason}",
            "title": failure.title,
            "status": failure.status,
            "detail": f"{section}: {detail}{tried}",
            "reason": failure.reason,
            "section": section,
            "attempts": attempts,
            "elapsed_ms": 1804 if attempts else 0,
            "retryable": True,
            "retry_after": retry_after,
            "href": f"/v1/users/1/overview?include={section}",
        },
    }


_SKIPPED = {"status": "skipped"}
_COMPLETE = {"user": _ok(_USER), "posts": _ok([_POST]), "todos": _ok([_TODO])}


def _late(section: str) -> dict[str, Any]:
    return _failed(section, Timeout, "no answer within 0.8 s")


def _refused(section: str) -> dict[str, Any]:
    return _failed(section, Unreachable, "the connection failed")


def _problem(slug: str, detail: str, **more: object) -> dict[str, Any]:
    return {
        "type": f"/problems/{slug}",
        "title": KINDS[slug].title,
        "status": KINDS[slug].status,
        "detail": detail,
        "instance": "/v1/users/1/overview",
    } | more


def _case(
    model: type[BaseModel], description: str, **examples: tuple[str, dict[str, Any]]
) -> dict[str, Any]:
    named = {name: {"summary": text, "value": value} for name, (text, value) in examples.items()}
    return {
        "model": model,
        "description": description,
        "content": {MEDIA_TYPE: {"examples": named}},
    }


def _event(name: str, data: str) -> dict[str, Any]:
    """The schema of one kind of event, as OpenAPI 3.2 and FastAPI write it (`itemSchema`)."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": name},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": f"#/components/schemas/{data}"},
            },
        },
    }


def _events(*named: tuple[str, object]) -> str:
    return "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in named)


_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in {
        "X-Complete": "`true` if every included section has all of its data, else `false`",
        "X-Request-ID": "The request's own if it was usable, else a new one",
        "Cache-Control": "Complete answers may be kept; anything partial is `no-store`",
        "Cache-Status": "RFC 9211: a member for each section, by its upstream",
        "Server-Timing": "Milliseconds of each section and of the whole; `hit`, `stale`, "
        "`coalesced`, `retry` or `hedge` where one was",
    }.items()
}
_ETAG = {"ETag": {"description": "On complete answers", "schema": {"type": "string"}}}

OVERVIEW: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": _HEADERS | _ETAG,
        "content": {
            "application/json": {
                "examples": {
                    "complete": {
                        "summary": "Every section could be had",
                        "value": {"user_id": 1, "complete": True, **_COMPLETE},
                    },
                    "one_section_failed": {
                        "summary": "Posts came too late; the rest is there",
                        "value": {
                            "user_id": 1,
                            "complete": False,
                            **_COMPLETE,
                            "posts": _late("posts"),
                        },
                    },
                    "stale": {
                        "summary": "The posts' upstream could not be asked; these were good once",
                        "value": {
                            "user_id": 1,
                            "complete": False,
                            **_COMPLETE,
                            "posts": _ok([_POST], stale=True),
                        },
                    },
                    "included_only": {
                        "summary": "Only todos were asked for",
                        "value": {
                            "user_id": 1,
                            "complete": True,
                            "user": _SKIPPED,
                            "posts": _SKIPPED,
                            "todos": _ok([_TODO]),
                        },
                    },
                }
            },
            "text/event-stream": {
                "schema": {"type": "string"},
                "itemSchema": {
                    "oneOf": [_event("section", "SectionEvent"), _event("done", "DoneEvent")]
                },
                "examples": {
                    "as_they_land": {
                        "summary": "Todos first, then the user; the posts came too late",
                        "value": _events(
                            ("section", {"name": "todos", "section": _ok([_TODO])}),
                            ("section", {"name": "user", "section": _ok(_USER)}),
                            ("section", {"name": "posts", "section": _late("posts")}),
                            ("done", {"user_id": 1, "complete": False, "status": 200}),
                        ),
                    }
                },
            },
        },
    },
    304: {"description": "Nothing has changed since the answer that If-None-Match names"},
    404: _case(
        UserNotFound,
        "The user does not exist",
        no_such_user=(
            "The user does not exist",
            _problem("not_found", "user: there is no such resource"),
        ),
    ),
    422: _case(
        InvalidRequest,
        "A parameter is wrong, and named",
        unknown_section=(
            "There is no such section",
            _problem(
                "invalid_request",
                "query parameter include: Input should be 'user', 'posts' or 'todos'",
                errors=[
                    {
                        "parameter": "include",
                        "location": "query",
                        "detail": "Input should be 'user', 'posts' or 'todos'",
                    }
                ],
            ),
        ),
    ),
    502: _case(
        OverviewFailed,
        "A required section, or all of them, could not be had from the upstream",
        required_failed=(
            "`require=posts`, and the posts could not be reached",
            _problem(
                "unreachable",
                "posts: the connection failed",
                sections={"user": _ok(_USER), "posts": _refused("posts"), "todos": _SKIPPED},
            ),
        ),
    ),
    503: _case(
        OverviewFailed,
        "As 502, for want of capacity; Retry-After says when to come back",
        circuit_open=(
            "`require=posts`, whose upstream failed so often that it is left alone for now",
            _problem(
                "circuit_open",
                "posts: it failed too often to be asked again now",
                sections={
                    "user": _SKIPPED,
                    "posts": _failed(
                        "posts",
                        CircuitOpen,
                        "it failed too often to be asked again now",
                        attempts=0,
                        retry_after=0.7,
                    ),
                    "todos": _SKIPPED,
                },
            ),
        ),
        overloaded=(
            "Turned away on arrival: the only section asked for has a queue that is too long",
            _problem(
                "overloaded",
                "posts: too many calls are waiting already",
                sections={
                    "user": _SKIPPED,
                    "posts": _failed(
                        "posts",
                        Overloaded,
                        "too many calls are waiting already",
                        attempts=0,
                        retry_after=1.2,
                    ),
                    "todos": _SKIPPED,
                },
            ),
        ),
    ),
    504: _case(
        OverviewFailed,
        "As 502, for want of time",
        all_late=(
            "No section came in time",
            _problem(
                "timeout",
                "; ".join(f"{one}: no answer within 0.8 s" for one in ("user", "posts", "todos")),
                sections={one: _late(one) for one in ("user", "posts", "todos")},
            ),
        ),
    ),
}

_ITEM = {
    "user_id": 1,
    "status": "ok",
    "overview": {"user_id": 1, "complete": True, **_COMPLETE},
}
_FAILED_ITEM = {
    "user_id": 999,
    "status": "failed",
    "error": _problem(
        "not_found", "user: there is no such resource", instance="/v1/users/999/overview"
    ),
}

BATCH: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            name: header
            for name, header in (_HEADERS | _ETAG).items()
            if name not in ("Cache-Status", "Server-Timing")
        },
        "content": {
            "application/json": {
                "examples": {
                    "one_user_is_unknown": {
                        "summary": "The second user does not exist; the first is not touched by it",
                        "value": {"complete": False, "items": [_ITEM, _FAILED_ITEM]},
                    }
                }
            },
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "itemSchema": {"$ref": "#/components/schemas/BatchItem"},
                "examples": {
                    "one_user_is_unknown": {
                        "summary": "The second user was decided first",
                        "value": "".join(f"{json.dumps(one)}\n" for one in (_FAILED_ITEM, _ITEM)),
                    }
                },
            },
        },
    },
    304: OVERVIEW[304],
    422: _case(
        InvalidRequest,
        "A parameter is wrong, and named",
        too_many=(
            "More users than `BATCH_MAX`",
            _problem(
                "invalid_request",
                "query parameter user_id: at most 100 different users, not 101",
                instance="/v1/overviews",
                errors=[
                    {
                        "parameter": "user_id",
                        "location": "query",
                        "detail": "at most 100 different users, not 101",
                    }
                ],
            ),
        ),
    ),
}
