"""Read Tributary's JSON, events and batches with httpx alone; as a program, take a tour of them.

python examples/python/client.py http://127.0.0.1:8000
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

Json = dict[str, Any]
Headers = Mapping[str, str] | None

# A carriage return at the end of a chunk may be half of a CRLF that continues in the next chunk.
LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


class Problem(Exception):
    """An answer that is not a success; `body` is its problem document."""

    def __init__(self, body: Json) -> None:
        super().__init__(body["detail"])
        self.body = body


async def read(client: httpx.AsyncClient, href: str, headers: Headers = None) -> Json:
    """The JSON at a path of Tributary, such as the `href` of a failed section."""
    response = await client.get(href, headers=headers)
    body: Json = response.json()
    if not response.is_success:
        raise Problem(body)
    return body


async def overview(client: httpx.AsyncClient, user: int, headers: Headers = None) -> Json:
    return await read(client, f"/v1/users/{user}/overview", headers)


async def retry(client: httpx.AsyncClient, error: Json) -> Json:
    """Retry the section that failed with this `error`, alone, after its `retry_after`."""
    await asyncio.sleep(error["retry_after"] or 0)
    section: Json = (await read(client, error["href"]))[error["section"]]
    return section


async def overviews(
    client: httpx.AsyncClient, users: Sequence[int], headers: Headers = None
) -> Json:
    """The overviews of many users, in request order."""
    return await read(client, _batch_url(users), headers)


async def events(
    client: httpx.AsyncClient, user: int, headers: Headers = None
) -> AsyncGenerator[tuple[str, Json]]:
    """`section` for each section when it completes, and `done` at the end.

    Leaving the loop does not close the connection: to stop early, wrap the call in `aclosing`.
    """
    url = f"/v1/users/{user}/overview"
    async with _stream(client, url, "text/event-stream", headers) as lines:
        event = ""
        data: list[str] = []
        async for line in lines:
            field, _, value = line.partition(":")
            if field == "event":
                event = value.removeprefix(" ")
            elif field == "data":
                data.append(value.removeprefix(" "))
            elif line == "":
                if data:
                    yield event, json.loads("\n".join(data))
                    if event == "done":
                        return
                event, data = "", []
    raise EOFError("the stream ended before it was done")


async def items(
    client: httpx.AsyncClient, users: Sequence[int], headers: Headers = None
) -> AsyncGenerator[Json]:
    """The items of a batch, each when it completes. To stop early, see `events`."""
    async with _stream(client, _batch_url(users), "application/x-ndjson", headers) as lines:
        async for line in lines:
            yield json.loads(line)


@asynccontextmanager
async def _stream(
    client: httpx.AsyncClient, url: str, accept: str, headers: Headers
) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream, open as long as the block."""
    headers = {**(headers or {}), "Accept": accept}
    async with client.stream("GET", url, headers=headers) as response:
        if not response.is_success:
            raise Problem(json.loads(await response.aread()))
        yield _lines(response)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """The lines of a response, wherever its chunks are split.

    httpx's `aiter_lines` also splits at U+2028 and similar, which JSON strings may contain.
    """
    rest = ""
    async for text in response.aiter_text():
        *complete, rest = LINE_END.split(rest + text)
        for line in complete:
            yield line
    if rest:
        yield rest.removesuffix("\r")


def _batch_url(users: Sequence[int]) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user}" for user in users)


async def tour(client: httpx.AsyncClient) -> None:
    """A tour of the demo with its faults. Raises if an answer is not as expected here."""
    print("JSON, while the posts fail")
    answer = await overview(client, 1, {"X-Demo-Fault": "posts=failing"})
    for name in ("user", "posts", "todos"):
        section = answer[name]
        print(describe(name, section))
        if section["status"] == "failed" and section["error"]["retryable"]:
            print(f"  retrying: {section['error']['href']}")
            print(describe(name, await retry(client, section["error"])))
    assert answer["posts"]["status"] == "failed"

    print("JSON, of a user who does not exist")
    try:
        await overview(client, 999)
    except Problem as problem:
        print(f"  {problem.body['status']}: {problem.body['title']}")
    else:
        raise AssertionError("expected a 404 problem")

    # After 600 ms, a section without an answer is `failed`.
    short_deadline = {"X-Demo-Fault": "posts=slow", "X-Request-Timeout-Ms": "600"}

    print("Events, while the posts are slow")
    async for event, data in events(client, 1, short_deadline):
        if event == "section":
            print(describe(**data))
        else:
            print(f"  {event}: {data['status']}, {completeness(data)}")
            assert data["status"] == 200

    print("A batch as NDJSON, while the posts are slow")
    completed = []
    async for item in items(client, [1, 999, 2], short_deadline):
        completed.append(item["user_id"])
        match item:
            case {"status": "ok"}:
                result = completeness(item["overview"])
            case {"status": "failed", "error": error}:
                result = error["title"]
        print(f"  {item['user_id']}: {result}")
    assert completed[0] == 999
    assert len(completed) == 3

    print("The same as JSON")
    batch = await overviews(client, [1, 999, 2], short_deadline)
    order = ", ".join(str(item["user_id"]) for item in batch["items"])
    print(f"  in request order: {order}")


def describe(name: str, section: Json) -> str:
    """One line about a section."""
    match section:
        case {"status": "ok", "data": list(data)}:
            return f"  {name}: {len(data)} items"
        case {"status": "ok", "data": user}:
            return f"  {name}: {user['name']}"
        case {"status": "failed", "error": error}:
            return f"  {name}: {error['title']} ({error['detail']})"
        case {"status": "skipped"}:
            return f"  {name}: not included"
    raise ValueError(f"not in the OpenAPI document: {section}")


def completeness(answer: Json) -> str:
    return "complete" if answer["complete"] else "not complete"


async def main() -> None:
    # One second more than the service's longest deadline (`REQUEST_TIMEOUT_MAX`).
    async with httpx.AsyncClient(base_url=sys.argv[1], timeout=11) as client:
        await tour(client)


if __name__ == "__main__":
    asyncio.run(main())
