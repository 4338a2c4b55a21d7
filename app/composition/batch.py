"""A batch: the answers of many plans as the items of one, and what the log says of them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from app.composition.result import ViewResult
from app.composition.view import Plan
from app.json_bytes import json_bool, json_object, json_text


def batch_item(result: ViewResult) -> bytes:
    """One item as JSON."""
    view = result.plan.view
    status, member = ("ok", view.name) if result.failure is None else ("failed", "error")
    return json_object(
        {
            view.identifier: b"%d" % result.plan.subject,
            "status": json_text(status),
            member: result.to_json(),
        }
    )


def batch_parts(
    plans: Sequence[Plan], items: dict[int, bytes], *, complete: bool
) -> Iterator[bytes]:
    """The batch as JSON, in the order of the plans; `items` are let go one by one."""
    yield b'{"complete":%b,"items":[' % json_bool(complete)
    for place, plan in enumerate(plans):
        if place:
            yield b","
        yield items.pop(plan.subject)
    yield b"]}"


class BatchLog:
    """The log fields of a batch: `partial` counts items that are not complete, `failed` the reasons
    of each section.
    """

    def __init__(self, users: int) -> None:
        self.fields: dict[str, Any] = {
            "complete": False,
            "users": users,
            "items": 0,
            "partial": 0,
            "failed": {},
        }

    @property
    def complete(self) -> bool:
        return bool(self.fields["complete"])

    def add(self, result: ViewResult) -> None:
        fields = self.fields
        fields["items"] += 1
        fields["partial"] += not result.complete
        fields["complete"] = fields["items"] == fields["users"] and not fields["partial"]
        for name, failure in result.failures.items():
            fields["failed"].setdefault(name, Counter())[failure.reason] += 1
