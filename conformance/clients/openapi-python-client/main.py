"""What every Python client is asked to do, in the words of openapi-python-client."""

import sys
from typing import assert_never

from generated.api.views import get_overview, get_overviews
from generated.client import Client
from generated.models import Batch, Failed, Overview, PostsOk, Skipped, UserNotFound, UserOk


def name_of(user: UserOk | Failed | Skipped) -> str:
    match user:
        case UserOk():
            return user.data.name
        case Failed():
            return user.error.reason.value
        case Skipped():
            return ""
        case _:
            assert_never(user)


client = Client(base_url=sys.argv[1])

overview = get_overview.sync(1, client=client)
assert isinstance(overview, Overview)
assert isinstance(overview.posts, PostsOk)
print("overview", name_of(overview.user), len(overview.posts.data))

problem = get_overview.sync(999, client=client)
assert isinstance(problem, UserNotFound)
print("404", problem.status, problem.title)

batch = get_overviews.sync(client=client, user_id=[1, 999])
assert isinstance(batch, Batch)
print("batch", ", ".join(f"{item.user_id} {item.status}" for item in batch.items))
