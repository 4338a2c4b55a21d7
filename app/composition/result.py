"""The result of a plan, from its outcomes: the answer of the view, or a problem.

It is computed once, and is the same for JSON, events and batches.
"""

from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Any

from app.call import Answer
from app.composition.outcome import Outcomes
from app.composition.section import render_section
from app.composition.view import Plan
from app.errors import Failure, NotFound, Unauthorized
from app.json_bytes import json_bool, json_object
from app.problems.responses import problem_json


@dataclass(frozen=True)
class ViewResult:
    plan: Plan
    outcomes: Outcomes

    @cached_property
    def failures(self) -> dict[str, Failure]:
        """The failures of sections, in the order of the view."""
        results = ((name, self.outcomes.get(name)) for name in self.plan.view.sections)
        return {
            name: outcome.result
            for name, outcome in results
            if outcome is not None and isinstance(outcome.result, Failure)
        }

    @cached_property
    def failure(self) -> Failure | None:
        """The failure of the answer as a whole; None means 200.

        In this order: the resource that the view is about does not exist; a required section
        failed; every section failed. In the last case the highest status counts (504 before 503
        before 502 before what the client itself may not have, 401 before 403).
        """
        for failure in self.failures.values():
            if isinstance(failure, NotFound):
                return failure
        for name, failure in self.failures.items():
            if name in self.plan.required:
                return failure
        if len(self.failures) == len(self.plan.questions):
            return max(self.failures.values(), key=_weight)
        return None

    @cached_property
    def complete(self) -> bool:
        """Whether every included section is ok, is not stale, and dropped nothing."""
        return len(self.outcomes) == len(self.plan.questions) and all(
            isinstance(outcome.result, Answer)
            and not outcome.result.stale
            and outcome.result.data.dropped == 0
            for outcome in self.outcomes.values()
        )

    @property
    def status(self) -> int:
        return 200 if self.failure is None else self.failure.status

    @property
    def challenge(self) -> str | None:
        """`WWW-Authenticate` of a 401: the schemes that the upstreams ask for."""
        if self.status != 401:
            return None
        schemes = (one.scheme for one in self.failures.values() if isinstance(one, Unauthorized))
        return ", ".join(dict.fromkeys(schemes))

    @property
    def retry_after(self) -> int | None:
        """`Retry-After` of a 503, in seconds: by then, every failed section may be asked again."""
        if self.status != 503:
            return None
        return ceil(max(failure.retry_after or 1 for failure in self.failures.values()))

    def to_json(self, timeline: bytes | None = None) -> bytes:
        """The answer, or the problem. `timeline` is JSON already."""
        plan = self.plan
        sections = {
            name: render_section(name, self.outcomes.get(name), plan) for name in plan.view.sections
        }
        if self.failure is not None:
            return problem_json(
                self.failure.reason,
                "; ".join(f"{name}: {one.detail}" for name, one in self.failures.items()),
                root_path=plan.root_path,
                instance=plan.path,
                sections=None if isinstance(self.failure, NotFound) else sections,
                timeline=timeline,
            )
        members = {
            plan.view.identifier: b"%d" % plan.subject,
            "complete": json_bool(self.complete),
            **sections,
        }
        if timeline is not None:
            members["timeline"] = timeline
        return json_object(members)

    def log_fields(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "failed": {name: failure.reason for name, failure in self.failures.items()},
            "stale": [
                name
                for name, outcome in self.outcomes.items()
                if isinstance(outcome.result, Answer) and outcome.result.stale
            ],
        }


def _weight(failure: Failure) -> int:
    return 500 if isinstance(failure, Unauthorized) else failure.status
