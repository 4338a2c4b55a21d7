"""Every problem type there is (RFC 9457 §3.1.1), by the slug that ends its `type`."""

from pydantic import BaseModel

from app.errors import (
    CircuitOpen,
    Failure,
    Forbidden,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    Unauthorized,
    Unreachable,
    UpstreamStatus,
)


class ProblemType(BaseModel):
    """What a problem type means, and what to do about it."""

    type: str
    title: str
    status: int
    meaning: str
    what_to_do: str


def type_url(slug: str, root_path: str = "") -> str:
    """The `type` of a problem: the path at which the problem type is explained."""
    return f"{root_path}/problems/{slug}"


def _type(
    slug: str, status: int, title: str, meaning: str, what_to_do: str
) -> tuple[str, ProblemType]:
    return slug, ProblemType(
        type=type_url(slug), title=title, status=status, meaning=meaning, what_to_do=what_to_do
    )


def _of(failure: type[Failure], meaning: str, what_to_do: str) -> tuple[str, ProblemType]:
    return _type(failure.reason, failure.status, failure.title, meaning, what_to_do)


PROBLEM_TYPES = dict(
    [
        _of(
            Timeout,
            "No complete answer came within the time of one attempt, or before the deadline.",
            "Ask again, for the failed section alone by its href; allow more with "
            "X-Request-Timeout-Ms if the client can wait.",
        ),
        _of(
            Unreachable,
            "The connection was refused, broke, or did not speak HTTP.",
            "Ask again shortly. Operators: the log line 'attempt failed' has the cause.",
        ),
        _of(
            UpstreamStatus,
            "The upstream answered with a status other than 200. Redirects are never followed.",
            "Ask again if 'retryable' is true; otherwise the upstream must be fixed first.",
        ),
        _of(
            Unauthorized,
            "The upstream answered 401 to a request that carried headers of the client's own.",
            "Authenticate, as WWW-Authenticate says, and ask again.",
        ),
        _of(
            Forbidden,
            "The upstream answered 403 to a request that carried headers of the client's own.",
            "Ask with other credentials, or not for this section.",
        ),
        _of(
            InvalidPayload,
            "The body was not JSON, did not have the expected shape, or was too large.",
            "Asking again rarely helps. Operators: the log line 'attempt failed' has the cause.",
        ),
        _of(
            NotFound,
            "The upstream that owns the resource says that it does not exist.",
            "Check the identifier.",
        ),
        _of(
            CircuitOpen,
            "The upstream failed so often that its circuit breaker is open: it is not asked for a "
            "while.",
            "Ask again after 'retry_after'; the other sections are not affected.",
        ),
        _of(
            Overloaded,
            "No permit was free before the deadline, the request was shed on arrival, the upstream "
            "asks for fewer calls, or the answer would be too large.",
            "Ask again after 'retry_after', less often, or for less at once.",
        ),
        _type(
            "invalid_request",
            422,
            "The request is not valid",
            "A parameter is missing, malformed or out of range.",
            "Fix the parameters that 'errors' names; the same request will fail again.",
        ),
        _type(
            "malformed_request",
            400,
            "This is not HTTP",
            "What was sent could not be read as an HTTP/1.1 request.",
            "Check the client, and any proxy between it and this service.",
        ),
        _type(
            "unsupported_version",
            505,
            "This version of HTTP is not spoken here",
            "The request's line names another major version than 1.",
            "Send HTTP/1.1; a proxy in front of this service may speak others.",
        ),
        _type(
            "head_too_large",
            431,
            "The head of the request is too large",
            "The request's line and headers are longer than 64 KiB, or more than 256.",
            "Send fewer or smaller headers; cookies are the usual cause.",
        ),
        _type(
            "no_such_route",
            404,
            "There is nothing at this path",
            "The path is not one that this service answers.",
            "See /docs for the paths there are.",
        ),
        _type(
            "method_not_allowed",
            405,
            "This method is not allowed here",
            "The path exists, but not for this method.",
            "Use one of the methods in the Allow header.",
        ),
        _type(
            "draining",
            503,
            "The service is about to stop",
            "A stop signal came: answers in flight are finished, new requests should go to another "
            "replica.",
            "Send the request to another replica.",
        ),
        _type(
            "internal_error",
            500,
            "The service made a mistake",
            "A defect of this service, not of an upstream and not of the request.",
            "Report it with the X-Request-ID of the answer.",
        ),
    ]
)
