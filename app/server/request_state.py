"""What middleware, routes and streams share about one request, beside its ASGI scope."""

import asyncio
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

    arrived: float
    request_id: str = ""
    head_only: bool = False
    log_fields: Mapping[str, Any] = field(default_factory=dict)

    def attach(self, scope: Scope) -> None:
        scope[_KEY] = self

    @staticmethod
    def of(scope: Scope) -> "RequestState":
        """The state of a request; it arrives now, if no server has said when."""
        state = scope.get(_KEY)
        if state is None:
            state = RequestState(asyncio.get_running_loop().time())
            state.attach(scope)
        assert isinstance(state, RequestState)
        return state
