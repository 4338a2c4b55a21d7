"""Todos: what a user still has to do, or has done."""

from app.call import Question
from app.sources.resource import Id, Resource
from app.upstream.decode import many


class Todo(Resource):
    userId: Id
    id: Id
    title: str
    completed: bool


EXAMPLE = {"userId": 1, "id": 1, "title": "Read the gauge", "completed": True}

_decode = many(Todo)


def todos_of(user_id: int) -> Question:
    return Question("todos", f"/todos?userId={user_id}", _decode)
