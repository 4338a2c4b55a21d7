"""What Schemathesis cannot know about the service; `schemathesis.toml` names this module."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData


def errors_are_problems(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Every error is a problem document (RFC 9457) that repeats its own status."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.json()["status"] == response.status_code


def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Keep every failure but one: OpenAPI cannot say that `require` is a part of `include`."""
    query = parse_qs(urlsplit(response.request.url or "").query)
    required, included = query.get("require", []), query.get("include", query.get("require", []))
    contradicts_itself = not set(required) <= set(included)
    return not (
        isinstance(failure, RejectedPositiveData)
        and response.status_code == 422
        and contradicts_itself
    )


# Calls, not decorators: mypy also runs where Schemathesis, and with it their type, is missing.
schemathesis.check(errors_are_problems)
schemathesis.hook(filter_failure)
