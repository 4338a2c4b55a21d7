"""The log: a line for each event on standard output, as JSON unless it is a terminal."""

import json
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog
from pydantic_core import PydanticSerializationError, to_json
from structlog.typing import FilteringBoundLogger, Processor

from app.call import Emit, Event
from app.errors import Failure
from app.resilience.events import (
    AttemptEnded,
    BreakerStateChanged,
    BudgetSpent,
    RefreshEnded,
    Retrying,
    ServedStale,
)
from app.settings import Settings

Log = FilteringBoundLogger


Write = Callable[[str], None]
"""Takes one line, without its end. It must not raise: no answer may fail because of its log."""


def write_to_stdout(line: str) -> None:
    """At once. What cannot be written is lost."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    # The reader has gone, the disk is full, the stream is closed, or there never was one.
    except (OSError, ValueError, AttributeError):
        pass


def logger(settings: Settings, write: Write = write_to_stdout) -> Log:
    console = settings.log_format == "console" or (
        settings.log_format == "auto" and sys.stdout is not None and sys.stdout.isatty()
    )
    render: list[Processor] = (
        [_escape_controls, structlog.dev.ConsoleRenderer()]
        if console
        else [structlog.processors.format_exc_info, _json]
    )
    log: Log = structlog.wrap_logger(
        _Sink(write),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
    ).bind()
    return log


class _Sink:
    """What structlog hands finished lines to, by level."""

    def __init__(self, write: Write) -> None:
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = write


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _escape_controls(
    _log: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A path may contain what a terminal takes for a command."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            event[name] = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return event


def _json(_log: object, _method: str, event: MutableMapping[str, Any]) -> str:
    # pydantic's encoder is faster than the standard library's, and every request has a line.
    try:
        return to_json(event, fallback=str, inf_nan_mode="strings").decode()
    except PydanticSerializationError:  # a text that is not Unicode, which JSON can still escape
        return json.dumps(event, default=str)


def event_logger(log: Log) -> Emit:
    """Log what an operator needs to know: whose fault a failure is, and what was tried.

    Events of healthy traffic (hits, coalesced calls) have no line of their own, nor have those that
    the request's line covers.
    """

    def log_event(event: Event) -> None:
        match event:
            case AttemptEnded(failure=None):
                pass
            case AttemptEnded(call, mirror, seconds, Failure() as failure):
                log.warning(
                    "attempt failed",
                    upstream=call.question.upstream,
                    mirror=mirror,
                    reason=failure.reason,
                    cause=failure.cause or failure.detail,
                    attempt=call.tally.attempts,
                    elapsed_ms=round(seconds * 1000),
                    request_id=call.context.request_id,
                )
            case Retrying(call, failure, seconds):
                log.info(
                    "retrying",
                    upstream=call.question.upstream,
                    reason=failure.reason,
                    in_ms=round(seconds * 1000),
                    request_id=call.context.request_id,
                )
            case BudgetSpent(call):
                log.info(
                    "retry budget spent",
                    upstream=call.question.upstream,
                    request_id=call.context.request_id,
                )
            case BreakerStateChanged(upstream, mirror, state):
                level = log.info if state == "closed" else log.warning
                level("breaker " + state, upstream=upstream, mirror=mirror)
            case ServedStale(call, failure):
                log.warning(
                    "served stale",
                    upstream=call.question.upstream,
                    reason=failure.reason,
                    request_id=call.context.request_id,
                )
            case RefreshEnded(call, Failure() as failure):
                log.warning(
                    "refresh failed",
                    upstream=call.question.upstream,
                    reason=failure.reason,
                    request_id=call.context.request_id,
                )

    return log_event


_LOGGED_ALREADY = frozenset({"Exception in ASGI application\n", "Invalid HTTP request received."})
"""Uvicorn's messages for what has a line of ours, with the request's id."""


class ToStructlog(logging.Handler):
    """Writes what libraries log through the standard library as lines of the same format."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg in _LOGGED_ALREADY:
            return
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # libraries may have their own
        self._log.log(level, record.getMessage(), logger=record.name, exc_info=record.exc_info)
