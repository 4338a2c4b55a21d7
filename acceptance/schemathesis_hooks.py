"""Rules of the service that OpenAPI cannot express, for Schemathesis."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData


def errors_are_problems(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    """Every error is a problem document (RFC 9457) that repeats its own status."""
    if response.status_code >= 400:
        assert response.headers["content-type"] == ["application/problem+json"]
        assert response.json()["status"] == response.status_code


def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Say only once how long the client will wait: both ways at once are refused."""
    if "X-Request-Timeout-Ms" in (case.headers or {}) and case.query:
        case.query.pop("timeout_ms", None)


def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Ignore failures of rules that OpenAPI cannot express."""
    query = parse_qs(urlsplit(response.request.url or "").query, keep_blank_values=True)
    match failure:
        case RejectedPositiveData():  # `require` must be a subset of `include`
            required = query.get("require", [])
            not_a_subset = not set(required) <= set(query.get("include", required))
            return not (response.status_code == 422 and not_a_subset)
        case AcceptedNegativeData():  # `maxItems` counts a repeated user once; `?verbose` is true
            users = query.get("user_id", [])
            return len(set(users)) == len(users) and query.get("verbose") != [""]
    return True


# Calls, not decorators: mypy also runs where Schemathesis, and so their type, is missing.
schemathesis.check(errors_are_problems)
schemathesis.hook(before_call)
schemathesis.hook(filter_failure)
