"""Posts: what a user wrote."""

from app.call import Question
from app.sources.resource import Id, Resource
from app.upstream.decode import many


class Post(Resource):
    userId: Id
    id: Id
    title: str
    body: str


EXAMPLE = {"userId": 1, "id": 1, "title": "On confluence", "body": "Where two rivers meet."}

_decode = many(Post)


def posts_by(user_id: int) -> Question:
    return Question("posts", f"/posts?userId={user_id}", _decode)
