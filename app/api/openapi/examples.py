"""A named example of each case that a client has to handle: its summary and its value.

They are made of the examples of the view's sections.
"""

from collections.abc import Mapping
from typing import Any

from app.errors import (
    CircuitOpen,
    Failure,
    Forbidden,
    Overloaded,
    Timeout,
    Unauthorized,
    Unreachable,
)
from app.problems.types import PROBLEM_TYPES, type_url
from app.views.overview import overview

Json = dict[str, Any]
Examples = Mapping[str, tuple[str, Any]]

_HREF = overview.path.format(user_id=1)


def _ok(data: object) -> Json:
    return {
        "status": "ok",
        "data": data,
        "stale": False,
        "dropped": 0,
        "as_of": "2026-11-22T13:00:00Z",
    }


def _failed(section: str, failure: Failure, attempts: int = 3) -> Json:
    tried = f", {attempts} attempts" if attempts > 1 else ""
    return {
        "status": "failed",
        "error": {
            "type": type_url(failure.reason),
            "title": failure.title,
            "status": failure.status,
            "detail": f"{section}: {failure.detail}{tried}",
            "reason": failure.reason,
            "section": section,
            "attempts": attempts,
            "elapsed_ms": 1804 if attempts else 0,
            "retryable": failure.retryable,
            "retry_after": failure.retry_after,
            "href": f"{_HREF}?include={section}",
        },
    }


_SKIPPED = {"status": "skipped"}
_SECTIONS = {name: _ok(section.example) for name, section in overview.sections.items()}
_ALL_SKIPPED = dict.fromkeys(overview.sections, _SKIPPED)


def _late(section: str) -> Json:
    return _failed(section, Timeout("no answer within 0.8 s"))


def _overview(*, complete: bool, **sections: Json) -> Json:
    return {"user_id": 1, "complete": complete, **_SECTIONS, **sections}


def _problem(slug: str, detail: str, instance: str = _HREF, **more: object) -> Json:
    return {
        "type": type_url(slug),
        "title": PROBLEM_TYPES[slug].title,
        "status": PROBLEM_TYPES[slug].status,
        "detail": detail,
        "instance": instance,
    } | more


def _only_posts_failed(failure: Failure, attempts: int = 0) -> Json:
    """`require=posts`."""
    sections = _ALL_SKIPPED | {"posts": _failed("posts", failure, attempts)}
    return _problem(failure.reason, f"posts: {failure.detail}", sections=sections)


def _wrong_parameter(parameter: str, detail: str, instance: str = _HREF) -> Json:
    return _problem(
        "invalid_request",
        f"query parameter {parameter}: {detail}",
        instance,
        errors=[{"parameter": parameter, "location": "query", "detail": detail}],
    )


OVERVIEWS: Examples = {
    "complete": ("Every section is there", _overview(complete=True)),
    "one_section_failed": (
        "Posts came too late; the rest is there",
        _overview(complete=False, posts=_late("posts")),
    ),
    "stale": (
        "The posts' upstream could not be asked; these are the last good ones",
        _overview(complete=False, posts=_SECTIONS["posts"] | {"stale": True}),
    ),
    "included_only": (
        "Only the todos were included",
        _overview(complete=True, **_ALL_SKIPPED | {"todos": _SECTIONS["todos"]}),
    ),
}

EVENTS = [
    *(
        ("section", {"name": name, "section": _SECTIONS[name]})
        for name in reversed(_SECTIONS)
        if name != "posts"
    ),
    ("section", {"name": "posts", "section": _late("posts")}),
    ("done", {"user_id": 1, "complete": False, "status": 200}),
]
"""An overview as it completes: the last section first; the posts came too late."""

NOT_FOUND: Examples = {
    "no_such_user": (
        "The user does not exist",
        _problem("not_found", "user: there is no such resource"),
    )
}

*_first, _last = map(repr, overview.sections)
_names = f"{', '.join(_first)} or {_last}"

UNKNOWN_SECTION: Examples = {
    "unknown_section": (
        "There is no such section",
        _wrong_parameter("include", f"Input should be {_names}"),
    )
}

UNAUTHORIZED: Examples = {
    "unauthorized": ("`require=posts`: sign in first", _only_posts_failed(Unauthorized(), 1))
}

FORBIDDEN: Examples = {
    "forbidden": ("`require=posts`: they are not theirs", _only_posts_failed(Forbidden(), 1))
}

UNREACHABLE: Examples = {
    "required_failed": (
        "`require=posts`, and the posts could not be reached",
        _problem(
            "unreachable",
            "posts: the connection failed",
            sections=_ALL_SKIPPED
            | {
                "user": _SECTIONS["user"],
                "posts": _failed("posts", Unreachable("the connection failed")),
            },
        ),
    )
}

NO_CAPACITY: Examples = {
    "circuit_open": (
        "`require=posts`, whose circuit breaker is open",
        _only_posts_failed(
            CircuitOpen("it failed too often to be asked again now", retry_after=0.7)
        ),
    ),
    "overloaded": (
        "Shed on arrival: the only section included has too long a queue",
        _only_posts_failed(Overloaded("too many calls are waiting already", retry_after=1.2)),
    ),
}

NO_TIME: Examples = {
    "all_late": (
        "No section came in time",
        _problem(
            "timeout",
            "; ".join(f"{name}: no answer within 0.8 s" for name in _SECTIONS),
            sections={name: _late(name) for name in _SECTIONS},
        ),
    )
}

ITEM = {"user_id": 1, "status": "ok", "overview": _overview(complete=True)}
FAILED_ITEM = {
    "user_id": 999,
    "status": "failed",
    "error": _problem(
        "not_found", "user: there is no such resource", overview.path.format(user_id=999)
    ),
}

TOO_MANY: Examples = {
    "too_many": (
        "More users than `BATCH_MAX`",
        _wrong_parameter("user_id", "at most 100 different users, not 101", overview.batch),
    )
}
