"""The overview of a user: who they are, what they wrote, what they have to do."""

from app.composition.view import Section, View
from app.sources.posts import Post, posts_by
from app.sources.resource import Id
from app.sources.todos import Todo, todos_of
from app.sources.users import User, user

overview = View(
    name="overview",
    path="/v1/users/{user_id}/overview",
    batch="/v1/overviews",
    identifier="user_id",
    identifier_type=Id,
    sections={
        "user": Section(User, user),
        "posts": Section(list[Post], posts_by),
        "todos": Section(list[Todo], todos_of),
    },
)
