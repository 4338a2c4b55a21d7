"""The overview of a user: who they are, what they wrote, what they have to do."""

from app.composition.view import Section, View
from app.sources import posts, todos, users
from app.sources.resource import Id

overview = View(
    name="overview",
    path="/v1/users/{user_id}/overview",
    batch="/v1/overviews",
    identifier="user_id",
    identifier_type=Id,
    sections={
        "user": Section(users.User, users.user, users.EXAMPLE),
        "posts": Section(list[posts.Post], posts.posts_by, [posts.EXAMPLE]),
        "todos": Section(list[todos.Todo], todos.todos_of, [todos.EXAMPLE]),
    },
)
