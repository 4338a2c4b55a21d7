"""A client of streams: it reads as the bytes come, tells events apart, and folds them."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import httpx
import respx
from starlette.types import Message

from tests.fakes import now
from tests.in_process import MODELS, NAMES, POST, TODO, USER, End, Running, a_scope

EVENTS, NDJSON = "text/event-stream", "application/x-ndjson"

Event = tuple[str, Any]
"""Its name and data. A comment goes by the name of its colon."""


def parsed(stream: str) -> list[Event]:
    """Events as the HTML standard reads them (§9.2.6); what is not ended by an empty line is lost.

    Stricter than a browser: a field that we have no use for is an error.
    """
    events: list[Event] = []
    name, data = "", list[str]()
    for line in re.split("\r\n|\n|\r", stream.removesuffix("\n")):
        label, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "" and data:
            events.append((name, json.loads("\n".join(data))))
            name, data = "", []
        elif line.startswith(":"):
            events.append((":", value))
        elif label == "event":
            name = value
        elif line:
            assert label == "data"
            data.append(value)
    return events


def fold(events: Sequence[Event]) -> tuple[int, Any]:
    """Status and JSON of the answer that the events come to, if they are what they should be."""
    *before, (last, done) = [event for event in events if event[0] != ":"]
    assert last == "done"
    assert done == MODELS.done_event.model_validate(done).model_dump(
        mode="json", exclude_unset=True
    )
    sections = {}
    for name, data in before:
        assert name == "section"
        landed = MODELS.section_event.model_validate(data)
        assert data == landed.model_dump(mode="json", exclude_unset=True)
        assert data["name"] not in sections
        sections[data["name"]] = data["section"]
    assert set(sections) == set(NAMES)
    status = done.pop("status")
    if status == 200:
        return status, {**done, **sections}
    assert set(done) == {"user_id", "complete", "error"}
    error = done["error"]
    assert done["complete"] is False
    assert error["status"] == status
    if "sections" in error:
        assert error["sections"] == sections
    return status, error


def timeless(answer: Any) -> Any:
    """Without what the clock on the wall has put in."""
    if isinstance(answer, dict):
        times = {"elapsed_ms": 0, "as_of": ""}
        return {name: times.get(name, timeless(value)) for name, value in answer.items()}
    return [timeless(one) for one in answer] if isinstance(answer, list) else answer


@dataclass
class Followed:
    """An answer with the instants at which its pieces came, and what the server raised, if so."""

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: bool = False
    raised: BaseException | None = None

    @property
    def text(self) -> str:
        return b"".join(piece for _, piece in self.pieces).decode()

    @property
    def timed(self) -> list[tuple[float, Event]]:
        """Each event, and when it came; no event is cut in two."""
        return [(when, one) for when, piece in self.pieces for one in parsed(piece.decode())]

    @property
    def landed(self) -> list[tuple[float, str]]:
        """Which section came when, and when it was done."""
        return [
            (round(when, 3), data.get("name", name))
            for when, (name, data) in self.timed
            if name != ":"
        ]


async def at_once(_: bytes) -> None:
    """Read as quickly as it is sent."""


async def follow(
    service: Running,
    target: str,
    accept: str,
    headers: Mapping[str, str] = {},
    *,
    method: str = "GET",
    stays: float | None = None,
    read: Callable[[bytes], Awaitable[None]] = at_once,
) -> Followed:
    """Ask below httpx, which would wait for the whole answer. The client `stays` so many seconds,
    and has room for the next piece when it has `read` one.
    """
    path, _, query = target.partition("?")
    scope = {
        **a_scope(path, method),
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), one.encode())
            for name, one in {"Accept": accept, **headers}.items()
        ],
    }
    followed, asked = Followed(), False

    async def receive() -> Message:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await (asyncio.Event().wait() if stays is None else asyncio.sleep(stays))
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            followed.status = message["status"]
            followed.headers = httpx.Headers(message["headers"])
            return
        assert not followed.ended
        if message["body"]:
            followed.pieces.append((now(), message["body"]))
            await read(message["body"])
        followed.ended = not message.get("more_body", False)

    try:
        await service.app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - as a server does, to break the connection
        followed.raised = error
    return followed


Play = Callable[[str, int], Awaitable[httpx.Response]]
"""What an upstream says of a section of a user."""


def played(play: Play) -> respx.MockRouter:
    """Upstreams that know any user."""

    async def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/users/"):
            return await play("user", int(path.removeprefix("/users/")))
        (user,) = parse_qs(request.url.query.decode())["userId"]
        return await play(path.removeprefix("/"), int(user))

    router = respx.MockRouter(assert_all_called=False)
    router.route().mock(side_effect=answer)
    return router


def well(section: str, user: int, cache_control: str = "no-store") -> httpx.Response:
    """Good data of any user."""
    data = {
        "user": USER | {"id": user},
        "posts": [POST | {"userId": user}],
        "todos": [TODO | {"userId": user}] * 2,
    }
    return httpx.Response(200, json=data[section], headers={"Cache-Control": cache_control})


Fate = float | tuple[float, End] | None
"""After so many seconds a section lands, well or else; or, with None, never."""


class World:
    """Upstreams whose sections have fates, as `posts` for every user or as `posts_7` for one."""

    def __init__(self, cache_control: str = "no-store", /, **fates: Fate) -> None:
        self._cache_control = cache_control
        self._fates = fates
        self.upstream = played(self._play)
        self.asked = list[tuple[float, str, int]]()
        self.given_up = list[tuple[float, str, int]]()
        self.in_flight = 0
        self.most = 0
        self.most_tasks = 0

    async def _play(self, section: str, user: int) -> httpx.Response:
        asked = section, user
        self.asked.append((round(now(), 3), *asked))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        try:
            return await self._meet(*asked)
        except asyncio.CancelledError:
            self.given_up.append((round(now(), 3), *asked))
            raise
        finally:
            self.in_flight -= 1

    async def _meet(self, section: str, user: int) -> httpx.Response:
        fate = self._fates.get(f"{section}_{user}", self._fates.get(section, 0.0))
        if fate is None:
            await asyncio.Event().wait()
            raise AssertionError
        seconds, end = fate if isinstance(fate, tuple) else (fate, None)
        await asyncio.sleep(seconds)
        if isinstance(end, Exception):
            raise end.with_traceback(None)
        return well(section, user, self._cache_control) if end is None else end


def taking(**fates: Fate) -> respx.MockRouter:
    """Upstreams whose sections have fates."""
    return World(**fates).upstream
