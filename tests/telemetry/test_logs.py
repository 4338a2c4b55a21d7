import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.errors import Failure, InvalidPayload, Timeout, Unreachable, UpstreamStatus
from app.resilience.events import AttemptEnded
from app.settings import Settings
from app.telemetry.logs import ToStructlog, logger, tell_attempts
from tests.fakes import a_call

Captured = pytest.CaptureFixture[str]


def lines(capsys: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def ended(failure: Failure | None, attempts: int = 1) -> AttemptEnded:
    call = a_call(upstream="posts")
    call.tally.attempts = attempts
    return AttemptEnded(call, 0.8004, failure)


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
    tell_attempts(logger(Settings(log_format="json")))(ended(failure, attempts=2))
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "attempt failed",
        "level": "warning",
        "upstream": "posts",
        "reason": reason,
        "cause": cause,
        "attempt": 2,
        "elapsed_ms": 800,
        "request_id": "test",
    }


def test_an_attempt_that_went_well_is_not_worth_a_line(capsys: Captured) -> None:
    tell_attempts(logger(Settings(log_format="json", log_level="debug")))(ended(None))
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
