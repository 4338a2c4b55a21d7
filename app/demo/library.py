"""Every page that the demo serves, serialised once."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.demo.faults import Section
from app.demo.people import Json, people
from app.demo.writing import posts, todos

Pages = Mapping[str | None, bytes]

MALFORMED = b'{"id":1,"title":"cut off in mid-'


@dataclass(frozen=True, slots=True)
class Shelf:
    """The pages of one section by user id as text; under None the page of all users."""

    sound: Pages
    spoilt: Pages  # one item of each list breaks the model; a user, being no list, is malformed


def library() -> Mapping[Section, Shelf]:
    """The whole data set, as it goes out on the wire."""
    users: Pages = {str(user["id"]): _dump(user) for user in people()}
    return {
        "user": Shelf(sound=users, spoilt=dict.fromkeys(users, MALFORMED)),
        "posts": _lists(posts()),
        "todos": _lists(todos()),
    }


def _lists(items: Sequence[Json]) -> Shelf:
    lists: dict[str | None, list[Json]] = defaultdict(list)
    for item in items:
        lists[str(item["userId"])].append(item)
        lists[None].append(item)
    return Shelf(
        sound={user: _dump(own) for user, own in lists.items()},
        spoilt={user: _dump(_spoil(own)) for user, own in lists.items()},
    )


def _spoil(items: Sequence[Json]) -> Sequence[Json]:
    first, second, *rest = items
    return [first, {**second, "id": "two, or thereabouts"}, *rest]


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
