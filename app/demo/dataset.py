"""Every body that the demo serves, serialised once."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.demo.faults import Section
from app.demo.people import Json, people
from app.demo.writing import posts, todos

Bodies = Mapping[str | None, bytes]

MALFORMED = b'{"id":1,"title":"cut off in mid-'


@dataclass(frozen=True, slots=True)
class Resource:
    """The bodies of one section by user id; under None, that of all users."""

    valid: Bodies
    with_bad_item: Bodies  # a user is no list: its body is malformed instead


def dataset() -> Mapping[Section, Resource]:
    """The data set, as it is sent."""
    users: Bodies = {str(user["id"]): _dump(user) for user in people()}
    return {
        "user": Resource(valid=users, with_bad_item=dict.fromkeys(users, MALFORMED)),
        "posts": _lists(posts()),
        "todos": _lists(todos()),
    }


def _lists(items: Sequence[Json]) -> Resource:
    lists: dict[str | None, list[Json]] = defaultdict(list)
    for item in items:
        lists[str(item["userId"])].append(item)
        lists[None].append(item)
    return Resource(
        valid={user: _dump(own) for user, own in lists.items()},
        with_bad_item={user: _dump(_with_bad_item(own)) for user, own in lists.items()},
    )


def _with_bad_item(items: Sequence[Json]) -> Sequence[Json]:
    first, second, *rest = items
    return [first, {**second, "id": "two, or thereabouts"}, *rest]


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
