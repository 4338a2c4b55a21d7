"""What the outcomes of a plan come to as a whole: an overview, or a problem."""

from math import ceil
from typing import Any

from app.api.problems import problem_json
from app.errors import NotFound
from app.views.overview import href, overview_json, section_json
from app.views.plan import Outcomes, Plan, failures, is_complete, stale, verdict


class ViewResult:
    """The same for every way of delivery. With a `failure`, the body is a problem."""

    def __init__(self, plan: Plan, outcomes: Outcomes) -> None:
        self._plan = plan
        self._outcomes = outcomes
        self.complete = is_complete(plan, outcomes)
        self.failure = verdict(plan, outcomes)

    @property
    def status(self) -> int:
        return 200 if self.failure is None else self.failure.status

    def body(self, timeline: bytes | None = None) -> bytes:
        sections = section_json(self._plan, self._outcomes)
        if self.failure is None:
            return overview_json(self._plan, self.complete, sections, timeline)
        failed = failures(self._plan, self._outcomes)
        return problem_json(
            self.failure.reason,
            "; ".join(f"{name}: {failure.detail}" for name, failure in failed),
            instance=href(self._plan),
            sections=None if isinstance(self.failure, NotFound) else sections,
            timeline=timeline,
        )

    @property
    def retry_after(self) -> int | None:
        """Seconds for the header of a 503; by then, all that asked for patience have had it."""
        if self.status != 503:
            return None
        failed = failures(self._plan, self._outcomes)
        return ceil(max(failure.retry_after or 1 for _, failure in failed))

    def for_the_log(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "failed": {
                name: failure.reason for name, failure in failures(self._plan, self._outcomes)
            },
            "stale": stale(self._outcomes),
        }
