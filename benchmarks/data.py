"""Generated users, posts and todos, in JSONPlaceholder's shape and about its size."""

import json
from random import Random
from typing import Any

USER_IDS = range(1, 11)
ALL_USER_IDS = range(1, 101)
"""Enough of them for requests by Zipf's law; the first ten are `USER_IDS`."""
POSTS_PER_USER = 10
TODOS_PER_USER = 20

WORDS = (
    *("amber", "basin", "cedar", "delta", "ember", "fjord", "glade", "harbor", "inlet", "jetty"),
    *("kelp", "lagoon", "meadow", "narrows", "ocean", "pebble", "quarry", "rapids", "shoal"),
    *("tidal", "upland", "valley", "willow", "yarrow", "brook", "channel", "drift", "eddy"),
)


def bodies() -> dict[str, bytes]:
    """Every body the upstream serves, by `users/1`, `posts/1`, `todos/1` and so on."""
    random = Random(1)  # the same bytes in every run
    resources: dict[str, Any] = {}
    for user_id in ALL_USER_IDS:
        resources[f"users/{user_id}"] = _user(random, user_id)
        resources[f"posts/{user_id}"] = [
            {
                "userId": user_id,
                "id": (user_id - 1) * POSTS_PER_USER + number,
                "title": _text(random, 6),
                "body": _text(random, 26),
            }
            for number in range(1, POSTS_PER_USER + 1)
        ]
        resources[f"todos/{user_id}"] = [
            {
                "userId": user_id,
                "id": (user_id - 1) * TODOS_PER_USER + number,
                "title": _text(random, 4),
                "completed": random.random() < 0.5,
            }
            for number in range(1, TODOS_PER_USER + 1)
        ]
    # Indented, as the original is: whitespace is a quarter of what a client has to parse.
    return {path: json.dumps(value, indent=2).encode() for path, value in resources.items()}


def _text(random: Random, words: int) -> str:
    return " ".join(random.choices(WORDS, k=words))


def _user(random: Random, user_id: int) -> dict[str, Any]:
    first, last = (word.title() for word in random.sample(WORDS, 2))
    return {
        "id": user_id,
        "name": f"{first} {last}",
        "username": f"{first}{user_id}",
        "email": f"{first}.{last}@example.org",
        "address": {
            "street": f"{random.choice(WORDS).title()} Street",
            "suite": f"Apt. {random.randint(100, 999)}",
            "city": random.choice(WORDS).title(),
            "zipcode": f"{random.randint(10000, 99999)}",
            "geo": {
                "lat": f"{random.uniform(-90, 90):.4f}",
                "lng": f"{random.uniform(-180, 180):.4f}",
            },
        },
        "phone": f"555-{random.randint(1000, 9999)}",
        "website": f"{last.lower()}.example.org",
        "company": {
            "name": f"{last} and {first}",
            "catchPhrase": _text(random, 5).capitalize(),
            "bs": _text(random, 5),
        },
    }
