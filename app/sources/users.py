"""Users: who they are and how to reach them."""

from app.call import Question
from app.sources.resource import Id, Resource
from app.upstream.decode import one


class Geo(Resource):
    lat: str | None = None
    lng: str | None = None


class Address(Resource):
    street: str | None = None
    suite: str | None = None
    city: str | None = None
    zipcode: str | None = None
    geo: Geo | None = None


class Company(Resource):
    name: str | None = None
    catchPhrase: str | None = None
    bs: str | None = None


class User(Resource):
    """A user. Of the profile, each part but names and email may be unknown, and is `null` then."""

    id: Id
    name: str
    username: str
    email: str
    address: Address | None = None
    phone: str | None = None
    website: str | None = None
    company: Company | None = None


EXAMPLE = {
    "id": 1,
    "name": "Ada Rivers",
    "username": "ada",
    "email": "ada@tributary.example",
    "address": {
        "street": "Weir Lane",
        "suite": "Flat 2",
        "city": "Confluence",
        "zipcode": "10115",
        "geo": {"lat": "52.5300", "lng": "13.3800"},
    },
    "phone": "+49 30 901820",
    "website": "ada.example",
    "company": {"name": "Delta Works", "catchPhrase": "Where it all meets", "bs": "water"},
}

_decode = one(User)


def user(user_id: int) -> Question:
    return Question("users", f"/users/{user_id}", _decode, not_found_on_404=True)
