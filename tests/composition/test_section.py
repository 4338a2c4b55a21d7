"""`render_section`: one section as JSON, `ok`, `failed` or `skipped`."""

import json

import pytest

from app.call import Answer, Tally
from app.composition.models import view_models
from app.composition.outcome import Outcome
from app.composition.section import SKIPPED, render_section
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
from tests.fakes import A_VIEW, an_answer

PLAN = A_VIEW.plan(7, A_VIEW.sections, [], "/api")
HREF = "/api/v1/users/7/overview"


@pytest.mark.parametrize(
    "answer",
    [
        an_answer(b'{"id":7,"name":"\xc3\x85sa \\"Weir\\""}'),
        an_answer(b'[{"body":"line\\nline"},{"body":""}]', dropped=3),
        an_answer(b'[{"title":"t"}]', stale=True),
    ],
    ids=["plain", "dropped", "stale"],
)
def test_an_ok_section_has_the_data_of_its_answer_and_says_if_stale_or_dropped(
    answer: Answer,
) -> None:
    outcome = Outcome(answer, Tally(attempts=1), 0.1)
    assert json.loads(render_section("posts", outcome, PLAN)) == {
        "status": "ok",
        "data": json.loads(answer.data.json),
        "stale": answer.stale,
        "dropped": answer.data.dropped,
        "as_of": "2023-11-14T22:13:20Z",
    }


def test_an_empty_list_is_an_ok_section() -> None:
    outcome = Outcome(an_answer(b"[]"), Tally(attempts=1), 0.1)
    section = json.loads(render_section("posts", outcome, PLAN))
    assert (section["status"], section["data"]) == ("ok", [])


def test_a_section_without_outcome_is_skipped() -> None:
    assert render_section("posts", None, PLAN) == SKIPPED == b'{"status":"skipped"}'


@pytest.mark.parametrize(
    ("failure", "status", "retryable"),
    [
        (Timeout("late"), 504, True),
        (Unreachable("broken"), 502, True),
        (UpstreamStatus(500), 502, True),
        (UpstreamStatus(408), 502, True),
        (UpstreamStatus(403), 502, False),
        (UpstreamStatus(302), 502, False),
        (InvalidPayload("not JSON"), 502, False),
        (NotFound("nobody"), 404, False),
        (CircuitOpen("open", retry_after=2.5), 503, True),
        (Overloaded("full", retry_after=7), 503, True),
    ],
)
@pytest.mark.parametrize("name", A_VIEW.sections)
def test_a_failed_section_has_its_error_with_reason_retryable_and_href(
    name: str, failure: Failure, status: int, retryable: bool
) -> None:
    outcome = Outcome(failure, Tally(attempts=1), 1.8044)
    section = json.loads(render_section(name, outcome, PLAN))
    event = {"name": name, "section": section}
    model = view_models(A_VIEW).section_event
    assert model.model_validate(event).model_dump(mode="json") == event
    assert section == {
        "status": "failed",
        "error": {
            "type": f"/api/problems/{failure.reason}",
            "title": failure.title,
            "status": status,
            "detail": f"{name}: {failure.detail}",
            "reason": failure.reason,
            "section": name,
            "attempts": 1,
            "elapsed_ms": 1804,
            "retryable": retryable,
            "retry_after": failure.retry_after,
            "href": f"{HREF}?include={name}",
        },
    }


def test_the_detail_of_a_failed_section_counts_several_attempts() -> None:
    outcome = Outcome(Timeout("no answer within 0.8 s"), Tally(attempts=3), 1.8)
    section = json.loads(render_section("posts", outcome, PLAN))
    assert section["error"]["detail"] == "posts: no answer within 0.8 s, 3 attempts"
