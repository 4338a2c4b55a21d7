"""What middleware, routes and streams share about one request, beside its ASGI scope."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Scope

_KEY = "tributary.request"


@dataclass(slots=True)
class RequestState:
    """One request, from the middleware to its log line.

    `arrived` is an instant of the event loop's clock, in seconds. With `head_only`, the answer is
    that to GET without its content (RFC 9110 §9.3.2). `log_fields` go into the request's log line;
    they are kept correct while the answer is being sent, which may break off at any moment.
    """

    request_id: str
    arrived: float
    head_only: bool = False
    log_fields: Mapping[str, Any] = field(default_factory=dict)

    def attach(self, scope: Scope) -> None:
        scope[_KEY] = self

    @staticmethod
    def of(scope: Scope) -> "RequestState":
        state = scope[_KEY]
        assert isinstance(state, RequestState)
        return state
