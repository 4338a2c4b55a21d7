"""What a request weighs while it waits: a batch as many single views as it has users."""

import pytest

from app.server.config import weight_of


@pytest.mark.parametrize(
    ("target", "weight"),
    [
        (b"/v1/users/1/overview", 1),
        (b"/v1/users/1/overview?include=user,posts,todos", 1),
        (b"/v1/overviews", 1),
        (b"/v1/overviews?user_id=1", 1),
        (b"/v1/overviews?user_id=1&user_id=2&user_id=3", 3),
        (b"/v1/overviews?user_id=1,2,3", 3),
        (b"/v1/overviews?user_id=1%2C2%2c3", 3),
        (b"/v1/overviews?user_id[]=1&user_id%5B%5D=2,3", 3),
        (b"/v1/overviews?" + b"&".join(b"user_id=%d" % user for user in range(100)), 100),
        (b"/v1/overviews?user_id=" + b",".join(b"%d" % user for user in range(100)), 100),
    ],
)
def test_a_batch_weighs_as_much_as_its_users_however_they_are_listed(
    target: bytes, weight: int
) -> None:
    assert weight_of(target) == weight
