"""The log: one line an event, as JSON or text, with what libraries log among them."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from app.call import Call, Event
from app.errors import (
    Failure,
    InvalidPayload,
    Overloaded,
    Timeout,
    Unreachable,
    UpstreamStatus,
)
from app.resilience.events import (
    AttemptCancelled,
    AttemptEnded,
    BreakerStateChanged,
    BudgetSpent,
    Coalesced,
    Hedging,
    RefreshEnded,
    Retrying,
    ServedFromCache,
    ServedStale,
    Shed,
)
from app.settings import Settings
from app.telemetry.logs import ToStructlog, event_logger, logger
from tests.fakes import a_call
from tests.in_process import log_lines

Captured = pytest.CaptureFixture[str]


def a_third_attempt() -> Call:
    call = a_call(upstream="posts")
    call.tally.attempts = 3
    return call


@pytest.mark.parametrize(
    ("failure", "reason", "cause"),
    [
        (Timeout("no answer", cause="attempt timeout"), "timeout", "attempt timeout"),
        (Unreachable("broken", cause="ReadError: reset"), "unreachable", "ReadError: reset"),
        (UpstreamStatus(503), "upstream_status", "HTTP 503"),
        (InvalidPayload("the body is too large"), "invalid_payload", "the body is too large"),
    ],
)
def test_a_failed_attempt_is_one_log_line_with_reason_and_cause(
    capsys: Captured, failure: Failure, reason: str, cause: str
) -> None:
    emit = event_logger(logger(Settings(log_format="json")))
    emit(AttemptEnded(a_third_attempt(), 1, 0.8004, failure))
    (line,) = log_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "attempt failed",
        "level": "warning",
        "upstream": "posts",
        "mirror": 1,
        "reason": reason,
        "cause": cause,
        "attempt": 3,
        "elapsed_ms": 800,
        "request_id": "test",
    }


TIMEOUT = Timeout("no answer", cause="attempt timeout")
POSTS = {"upstream": "posts", "request_id": "test"}
SECOND_MIRROR = {"upstream": "posts", "mirror": 1}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Retrying(a_call(), TIMEOUT, 0.0204),
            {"event": "retrying", "level": "info", **POSTS, "reason": "timeout", "in_ms": 20},
        ),
        (BudgetSpent(a_call()), {"event": "retry budget spent", "level": "info", **POSTS}),
        (
            BreakerStateChanged("posts", 1, "open"),
            {"event": "breaker open", "level": "warning", **SECOND_MIRROR},
        ),
        (
            BreakerStateChanged("posts", 1, "half_open"),
            {"event": "breaker half_open", "level": "warning", **SECOND_MIRROR},
        ),
        (
            BreakerStateChanged("posts", 1, "closed"),
            {"event": "breaker closed", "level": "info", **SECOND_MIRROR},
        ),
        (
            ServedStale(a_call(), TIMEOUT),
            {"event": "served stale", "level": "warning", **POSTS, "reason": "timeout"},
        ),
        (
            RefreshEnded(a_call(), TIMEOUT),
            {"event": "refresh failed", "level": "warning", **POSTS, "reason": "timeout"},
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else value["event"],
)
def test_retry_breaker_stale_and_refresh_events_are_one_log_line_each(
    capsys: Captured, event: Event, expected: dict[str, object]
) -> None:
    event_logger(logger(Settings(log_format="json")))(event)
    (line,) = log_lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == expected


@pytest.mark.parametrize(
    "event",
    [
        AttemptEnded(a_call(), 0, 0.8, None),
        AttemptCancelled(a_call(), 0, 0.8),
        Hedging(a_call()),
        Shed(a_call(), Overloaded("full")),
        Coalesced(a_call(), 0.1, None),
        ServedFromCache(a_call(), stale=False),
        ServedFromCache(a_call(), stale=True),
        RefreshEnded(a_call(), None),
    ],
    ids=lambda event: type(event).__name__,
)
def test_events_of_healthy_traffic_are_not_logged(capsys: Captured, event: Event) -> None:
    event_logger(logger(Settings(log_format="json", log_level="debug")))(event)
    assert log_lines(capsys) == []


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_messages_below_the_log_level_are_not_logged(
    capsys: Captured, level: str, logged: list[str]
) -> None:
    log = logger(Settings.model_validate({"log_format": "json", "log_level": level}))
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("message", more={"a": [1, None]})
    assert [(line["level"], line["event"], line["more"]) for line in log_lines(capsys)] == [
        (name, "message", {"a": [1, None]}) for name in logged
    ]


def test_log_format_auto_is_json_without_a_terminal(capsys: Captured) -> None:
    logger(Settings(log_format="auto")).info("message")
    assert [line["event"] for line in log_lines(capsys)] == ["message"]


def test_log_format_console_is_text(capsys: Captured) -> None:
    logger(Settings(log_format="console")).info("message", port=8000)
    text = capsys.readouterr().out
    assert "message" in text
    assert "8000" in text
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(text)


def test_an_exception_is_logged_within_its_line(capsys: Captured) -> None:
    several = ExceptionGroup("several", [ZeroDivisionError("ours")])
    logger(Settings(log_format="json")).error("internal error", exc_info=several)
    (line,) = log_lines(capsys)
    assert "ZeroDivisionError: ours" in line["exception"]


@contextmanager
def a_library() -> Iterator[logging.Logger]:
    """A library's logger, with our handler as the service installs it on the root."""
    log, handler = logging.getLogger("a.library"), ToStructlog(logger(Settings(log_format="json")))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


def test_a_bug_that_the_middleware_logged_is_not_logged_again_for_uvicorn(capsys: Captured) -> None:
    with a_library() as library:
        library.error("Exception in ASGI application\n")
        library.error("Exception in something else\n")
    assert [line["event"] for line in log_lines(capsys)] == ["Exception in something else\n"]


def test_a_library_warning_is_one_log_line(capsys: Captured) -> None:
    with a_library() as library:
        library.warning("%d of %s\nlost", 3, "five")
        library.critical("100%")
    first, second = log_lines(capsys)
    assert (first["event"], first["logger"]) == ("3 of five\nlost", "a.library")
    assert first["level"] == "warning"
    assert (second["event"], second["level"]) == ("100%", "critical")


def test_a_library_message_below_warning_is_not_logged(capsys: Captured) -> None:
    with a_library() as library:
        library.setLevel(logging.DEBUG)
        library.info("hello")
    assert log_lines(capsys) == []


def test_a_library_exception_is_logged_with_its_traceback(capsys: Captured) -> None:
    with a_library() as library:
        library.error("Task exception was never retrieved", exc_info=ZeroDivisionError("theirs"))
    (line,) = log_lines(capsys)
    assert (line["level"], line["logger"]) == ("error", "a.library")
    assert "ZeroDivisionError: theirs" in line["exception"]


@pytest.mark.parametrize("text", ["\udcff", "\x00\x1b[31m", "{}%s", "\u2028", "a\r\nb"])
def test_no_text_breaks_a_log_line(capsys: Captured, text: str) -> None:
    with a_library() as library:
        library.warning(text)
    output = capsys.readouterr().out
    assert output.count("\n") == 1
    json.loads(output)
