"""A pipeline of all layers, and calls to it."""

from dataclasses import replace
from typing import Any

from app.call import Call, Event, Fetch
from app.errors import UpstreamStatus
from app.resilience.pipeline import Upstream, pipeline
from app.resilience.store import Store
from app.settings import UpstreamSettings
from tests.fakes import a_context, a_question

BUSY = UpstreamStatus(503, retry_after=1.0)


def a_pipeline(*mirrors: Fetch, events: list[Event] | None = None, **settings: Any) -> Upstream:
    """Without retries, unless `settings` say otherwise."""
    return pipeline(
        mirrors,
        UpstreamSettings(**({"retries": 0} | settings)),
        store=Store(),
        request_timeout=3.0,
        emit=([] if events is None else events).append,
    )


def a_call_about(number: int, deadline: float = 10.0) -> Call:
    """Calls about different numbers are not equal."""
    return Call(replace(a_question(), target=f"/posts/{number}"), a_context(deadline))
