"""What every Python client is asked to do, with the models of datamodel-code-generator."""

import sys
from typing import assert_never

import httpx
from generated import Batch, Failed, Overview, PostsOk, Skipped, UserNotFound, UserOk, UserSection


def name_of(section: UserSection) -> str:
    match user := section.root:
        case UserOk():
            return user.data.name
        case Failed():
            return user.error.reason.value
        case Skipped():
            return ""
        case _:
            assert_never(user)


client = httpx.Client(base_url=sys.argv[1])

overview = Overview.model_validate_json(client.get("/v1/users/1/overview").content)
assert isinstance(overview.posts.root, PostsOk)
print("overview", name_of(overview.user), len(overview.posts.root.data))

problem = UserNotFound.model_validate_json(client.get("/v1/users/999/overview").content)
print("404", problem.status, problem.title)

batch = Batch.model_validate_json(client.get("/v1/overviews?user_id=1,999").content)
items = [item.root for item in batch.items]
print("batch", ", ".join(f"{item.user_id} {item.status}" for item in items))
