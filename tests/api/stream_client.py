"""A client of streams: it reads chunks as they are sent, and parses and folds SSE."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from starlette.types import Message

from tests.fakes import now
from tests.in_process import MODELS, SECTIONS, ServiceClient, a_scope, validated

JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"

Event = tuple[str, Any]
"""Its name and data. The name of a comment is its colon."""


def parse_sse(stream: str) -> list[Event]:
    """Events as the HTML standard reads them (§9.2.6); one without an empty line after it is lost.

    Stricter than a browser: a field that we do not use is an error.
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
        elif label == "id":
            assert (name, value) == ("done", "done")
        elif label == "retry":
            assert int(value) > 0
        elif line:
            assert label == "data"
            data.append(value)
    return events


def fold(events: Sequence[Event]) -> tuple[int, Any]:
    """Status and JSON of the answer that the events amount to; each must be as documented."""
    *before, (last, done) = [event for event in events if event[0] != ":"]
    assert last == "done"
    validated(done, MODELS.done_event)
    sections = {}
    for name, data in before:
        assert name == "section"
        validated(data, MODELS.section_event)
        assert data["name"] not in sections
        sections[data["name"]] = data["section"]
    assert set(sections) == set(SECTIONS)
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


def without_times(answer: Any) -> Any:
    """The answer without what depends on the wall clock."""
    if isinstance(answer, dict):
        times = {"elapsed_ms": 0, "as_of": ""}
        return {name: times.get(name, without_times(value)) for name, value in answer.items()}
    return [without_times(one) for one in answer] if isinstance(answer, list) else answer


@dataclass
class StreamedResponse:
    """A response with the instant of each chunk, and the exception that the server raised."""

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    ended: bool = False
    raised: BaseException | None = None

    @property
    def text(self) -> str:
        return b"".join(chunk for _, chunk in self.chunks).decode()

    @property
    def timed_events(self) -> list[tuple[float, Event]]:
        """Each event and its instant; no event is split over two chunks."""
        return [(when, event) for when, chunk in self.chunks for event in parse_sse(chunk.decode())]

    @property
    def completions(self) -> list[tuple[float, str]]:
        """When each section completed, and when the answer was `done`."""
        return [
            (round(when, 3), data.get("name", name))
            for when, (name, data) in self.timed_events
            if name != ":"
        ]


async def read_at_once(_: bytes) -> None:
    """Read as quickly as the server sends."""


async def stream(
    service: ServiceClient,
    target: str,
    accept: str,
    headers: Mapping[str, str] = {},
    *,
    method: str = "GET",
    disconnect_after: float | None = None,
    read: Callable[[bytes], Awaitable[None]] = read_at_once,
) -> StreamedResponse:
    """Send a request below httpx, which would wait for the end of the response.

    The client disconnects after so many seconds, if any, and takes the next chunk when it has
    `read` one.
    """
    path, _, query = target.partition("?")
    scope = {
        **a_scope(path, method),
        "query_string": query.encode(),
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in {"Accept": accept, **headers}.items()
        ],
    }
    response, request_sent = StreamedResponse(), False

    async def receive() -> Message:
        nonlocal request_sent
        if not request_sent:
            request_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if disconnect_after is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(disconnect_after)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            response.status = message["status"]
            response.headers = httpx.Headers(message["headers"])
            return
        assert not response.ended
        if message["body"]:
            response.chunks.append((now(), message["body"]))
            await read(message["body"])
        response.ended = not message.get("more_body", False)

    try:
        await service.app(scope, receive, send)
    except Exception as error:  # noqa: BLE001 - a server, too, would break the connection
        response.raised = error
    return response
