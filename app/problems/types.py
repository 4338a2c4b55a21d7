"""Every kind of problem there is, by the slug that ends its `type`."""

from dataclasses import dataclass

from app.errors import (
    CircuitOpen,
    Failure,
    InvalidPayload,
    NotFound,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)


@dataclass(frozen=True, slots=True)
class Kind:
    status: int
    title: str
    meaning: str
    what_to_do: str


def type_url(slug: str) -> str:
    """The `type` of a problem: where its kind is explained."""
    return f"/problems/{slug}"


def _of(failure: type[Failure], meaning: str, what_to_do: str) -> Kind:
    return Kind(failure.status, failure.title, meaning, what_to_do)


KINDS = {
    "timeout": _of(
        Timeout,
        "No complete answer came within the time of one attempt, or before the deadline.",
        "Ask again, for the failed section alone by its href; allow more with "
        "X-Request-Timeout-Ms if the client can wait.",
    ),
    "unreachable": _of(
        Unreachable,
        "The connection was refused, broke, or did not speak HTTP.",
        "Ask again shortly. Operators: the log line 'attempt failed' has the cause.",
    ),
    "upstream_status": _of(
        UpstreamStatus,
        "The upstream answered with a status other than 200. Redirects are never followed.",
        "Ask again if 'retryable' is true; otherwise the upstream must be fixed first.",
    ),
    "invalid_payload": _of(
        InvalidPayload,
        "The body was not JSON, did not have the expected shape, or was too large.",
        "Asking again rarely helps. Operators: compare the upstream's answer with our schema.",
    ),
    "not_found": _of(
        NotFound,
        "The upstream that owns the resource says that it does not exist.",
        "Check the identifier.",
    ),
    "circuit_open": _of(
        CircuitOpen,
        "The upstream failed so often that it is not asked for a while.",
        "Ask again after Retry-After; the sections beside it are not concerned.",
    ),
    "overloaded": _of(
        Overloaded,
        "No permit was free before the deadline, or the upstream asks for fewer calls.",
        "Ask again after Retry-After, and less often.",
    ),
    "invalid_request": Kind(
        422,
        "The request is not valid",
        "A parameter is missing, malformed or out of range.",
        "Fix the parameters that 'errors' names; asking again unchanged cannot help.",
    ),
    "malformed_request": Kind(
        400,
        "This is not HTTP",
        "What was sent could not be read as an HTTP/1.1 request.",
        "Check the client, or what stands between it and this service.",
    ),
    "head_too_large": Kind(
        431,
        "The head of the request is too large",
        "The request's line and headers together are longer than 64 KiB.",
        "Send fewer or smaller headers; cookies are the usual cause.",
    ),
    "no_such_route": Kind(
        404,
        "There is nothing at this path",
        "The path is not one that this service answers.",
        "See /docs for the paths there are.",
    ),
    "method_not_allowed": Kind(
        405,
        "This method is not allowed here",
        "The path exists, but not for this method.",
        "Use one of the methods in the Allow header.",
    ),
    "draining": Kind(
        503,
        "The service is about to stop",
        "A stop signal came: answers in flight are finished, new requests belong elsewhere.",
        "Send traffic to another replica.",
    ),
    "internal_error": Kind(
        500,
        "The service made a mistake",
        "A defect of this service, not of an upstream and not of the request.",
        "Report it with the X-Request-ID of the answer.",
    ),
}
