"""What every Python client is asked to do, in the words of openapi-generator."""

import sys
from typing import assert_never

from generated import (
    ApiClient,
    Configuration,
    Failed,
    PostsOk,
    Skipped,
    UserNotFound,
    UserOk,
    UserSection,
    ViewsApi,
)
from generated.exceptions import NotFoundException


def name_of(section: UserSection) -> str:
    user = section.actual_instance
    assert user is not None
    match user:
        case UserOk():
            return user.data.name
        case Failed():
            return user.error.reason
        case Skipped():
            return ""
        case _:
            assert_never(user)


views = ViewsApi(ApiClient(Configuration(host=sys.argv[1])))

overview = views.get_overview(1)
posts = overview.posts.actual_instance
assert isinstance(posts, PostsOk)
print("overview", name_of(overview.user), len(posts.data))

try:
    views.get_overview(999)
except NotFoundException as error:
    problem = error.data
    assert isinstance(problem, UserNotFound)
    print("404", problem.status, problem.title)

items = [item.actual_instance for item in views.get_overviews([1, 999]).items]
print("batch", ", ".join(f"{item.user_id} {item.status}" for item in items if item))
