import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

Captured = pytest.CaptureFixture[str]


def lines(capsys: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


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
def test_a_failed_attempt_is_one_line_that_says_whose_fault_it_is(
    capsys: Captured, failure: Failure, reason: str, cause: str
) -> None:
    emit = event_logger(logger(Settings(log_format="json")))
    emit(AttemptEnded(a_third_attempt(), 1, 0.8004, failure))
    (line,) = lines(capsys)
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


_LATE = Timeout("no answer", cause="attempt timeout")
_OF_POSTS = {"upstream": "posts", "request_id": "test"}
_SECOND = {"upstream": "posts", "mirror": 1}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (
            Retrying(a_call(), _LATE, 0.0204),
            {"event": "retrying", "level": "info", **_OF_POSTS, "reason": "timeout", "in_ms": 20},
        ),
        (BudgetSpent(a_call()), {"event": "retry budget spent", "level": "info", **_OF_POSTS}),
        (
            BreakerStateChanged("posts", 1, "open"),
            {"event": "breaker open", "level": "warning", **_SECOND},
        ),
        (
            BreakerStateChanged("posts", 1, "half_open"),
            {"event": "breaker half_open", "level": "warning", **_SECOND},
        ),
        (
            BreakerStateChanged("posts", 1, "closed"),
            {"event": "breaker closed", "level": "info", **_SECOND},
        ),
        (
            ServedStale(a_call(), _LATE),
            {"event": "served stale", "level": "warning", **_OF_POSTS, "reason": "timeout"},
        ),
        (
            RefreshEnded(a_call(), _LATE),
            {"event": "refresh failed", "level": "warning", **_OF_POSTS, "reason": "timeout"},
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else value["event"],
)
def test_what_was_tried_and_what_it_came_to_is_one_line(
    capsys: Captured, event: Event, told: dict[str, object]
) -> None:
    event_logger(logger(Settings(log_format="json")))(event)
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == told


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
def test_what_comes_with_healthy_traffic_is_not_worth_a_line(
    capsys: Captured, event: Event
) -> None:
    event_logger(logger(Settings(log_format="json", log_level="debug")))(event)
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_what_is_below_the_level_is_not_told(capsys: Captured, level: str, told: list[str]) -> None:
    log = logger(Settings.model_validate({"log_format": "json", "log_level": level}))
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("said", more={"a": [1, None]})
    assert [(line["level"], line["event"], line["more"]) for line in lines(capsys)] == [
        (name, "said", {"a": [1, None]}) for name in told
    ]


def test_away_from_a_terminal_lines_are_json(capsys: Captured) -> None:
    logger(Settings(log_format="auto")).info("said")
    assert [line["event"] for line in lines(capsys)] == ["said"]


def test_for_people_lines_are_text(capsys: Captured) -> None:
    logger(Settings(log_format="console")).info("said", port=8000)
    text = capsys.readouterr().out
    assert "said" in text
    assert "8000" in text
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(text)


def test_an_exception_is_told_within_its_line(capsys: Captured) -> None:
    several = ExceptionGroup("several", [ZeroDivisionError("ours")])
    logger(Settings(log_format="json")).error("internal error", exc_info=several)
    (line,) = lines(capsys)
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


def test_what_the_envelope_has_told_is_not_told_again_by_the_server(capsys: Captured) -> None:
    with a_library() as library:
        library.error("Exception in ASGI application\n")
        library.error("Exception in something else\n")
    assert [line["event"] for line in lines(capsys)] == ["Exception in something else\n"]


def test_what_libraries_log_comes_in_the_same_lines(capsys: Captured) -> None:
    with a_library() as library:
        library.warning("%d of %s\nlost", 3, "five")
        library.critical("100%")
    first, second = lines(capsys)
    assert (first["event"], first["logger"]) == ("3 of five\nlost", "a.library")
    assert first["level"] == "warning"
    assert (second["event"], second["level"]) == ("100%", "critical")


def test_the_chatter_of_libraries_does_not(capsys: Captured) -> None:
    with a_library() as library:
        library.setLevel(logging.DEBUG)
        library.info("hello")
    assert lines(capsys) == []


def test_a_librarys_exception_comes_with_its_traceback(capsys: Captured) -> None:
    with a_library() as library:
        library.error("Task exception was never retrieved", exc_info=ZeroDivisionError("theirs"))
    (line,) = lines(capsys)
    assert (line["level"], line["logger"]) == ("error", "a.library")
    assert "ZeroDivisionError: theirs" in line["exception"]


@pytest.mark.parametrize("text", ["\udcff", "\x00\x1b[31m", "{}%s", "\u2028", "a\r\nb"])
def test_no_text_breaks_a_line(capsys: Captured, text: str) -> None:
    with a_library() as library:
        library.warning(text)
    written = capsys.readouterr().out
    assert written.count("\n") == 1
    json.loads(written)
