"""The benchmark's own requests, to verify and to time: one at a time on one connection."""

import http.client
import json
import time
from contextlib import closing
from email.message import Message
from typing import Any

from .data import USER_IDS
from .process import HOST, BenchmarkError
from .variants import Variant

OVERVIEW = "/v1/users/{}/overview"


class Client:
    """A keep-alive connection on which any response but a complete 200 is an error."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30)

    def get(self, path: str) -> bytes:
        return self._request(path)[1]

    def headers(self, path: str) -> Message:
        return self._request(path)[0]

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def close(self) -> None:
        self._connection.close()

    def _request(self, path: str) -> tuple[Message, bytes]:
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchmarkError(f"{path}: {error!r}") from error
        if response.status != 200 or response.getheader("X-Complete") == "false":
            raise BenchmarkError(f"{path} answered {response.status}: {body[:500]!r}")
        return response.headers, body


def durations(port: int, path: str) -> list[float]:
    """Seconds until the response is complete, for each user in turn."""
    with closing(Client(port)) as client:
        client.get(path.format(USER_IDS[0]))  # opens connections
        seconds = []
        for user_id in USER_IDS:
            began = time.perf_counter()
            client.get(path.format(user_id))
            seconds.append(time.perf_counter() - began)
    return seconds


def verify(variant: Variant, server: Client, upstream: Client, user_ids: range) -> None:
    """Check that each user's overview equals the upstream's own data, field by field."""
    for user_id in user_ids:
        expected = {
            "user": upstream.json(f"/users/{user_id}"),
            "posts": upstream.json(f"/posts?userId={user_id}"),
            "todos": upstream.json(f"/todos?userId={user_id}"),
        }
        response = server.json(OVERVIEW.format(user_id))
        try:
            sections = variant.sections(response)
        except (KeyError, TypeError, ValueError) as error:
            raise BenchmarkError(f"{variant.name}, user {user_id}: {error!r}") from error
        for name, data in expected.items():
            if sections[name] != data:
                raise BenchmarkError(
                    f"{variant.name}, user {user_id}: {name} differs from the upstream's:\n"
                    f"{sections[name]}\n{data}"
                )
