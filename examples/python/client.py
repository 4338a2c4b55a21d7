"""Tributary's JSON, events and batches, read with nothing but httpx; as a program, a tour of them.

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

# A carriage return at the very end may be one half of a CRLF, whose other half is still to come.
LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


class Problem(Exception):
    """An answer that is not a success; `body` has its members, and perhaps `sections`."""

    def __init__(self, body: Json) -> None:
        super().__init__(body["detail"])
        self.body = body


async def read(client: httpx.AsyncClient, href: str, headers: Headers = None) -> Json:
    """The JSON at one of Tributary's own paths, such as the `href` of a failed section."""
    response = await client.get(href, headers=headers)
    body: Json = response.json()
    if not response.is_success:
        raise Problem(body)
    return body


async def overview(client: httpx.AsyncClient, user: int, headers: Headers = None) -> Json:
    return await read(client, f"/v1/users/{user}/overview", headers)


async def retry(client: httpx.AsyncClient, error: Json) -> Json:
    """The section that failed with this `error` once more, alone, no sooner than it allows."""
    await asyncio.sleep(error["retry_after"] or 0)
    section: Json = (await read(client, error["href"]))[error["section"]]
    return section


async def overviews(
    client: httpx.AsyncClient, users: Sequence[int], headers: Headers = None
) -> Json:
    """Many users, in the order asked for."""
    return await read(client, _many(users), headers)


async def events(
    client: httpx.AsyncClient, user: int, headers: Headers = None
) -> AsyncGenerator[tuple[str, Json]]:
    """`section` for each section when it lands, and `done` at the end.

    To leave a loop over it does not hang up: whoever wants no more puts `aclosing` around it.
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
    """Many users, each when it is complete. To stop early: as for `events`."""
    async with _stream(client, _many(users), "application/x-ndjson", headers) as lines:
        async for line in lines:
            yield json.loads(line)


@asynccontextmanager
async def _stream(
    client: httpx.AsyncClient, url: str, accept: str, headers: Headers
) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream, for as long as the block lasts."""
    headers = {**(headers or {}), "Accept": accept}
    async with client.stream("GET", url, headers=headers) as response:
        if not response.is_success:
            raise Problem(json.loads(await response.aread()))
        yield _lines(response)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Wherever chunks are split.

    httpx's `aiter_lines` splits at U+2028 and its like too, which JSON may have in its strings.
    """
    rest = ""
    async for text in response.aiter_text():
        *complete, rest = LINE_END.split(rest + text)
        for line in complete:
            yield line
    if rest:
        yield rest.removesuffix("\r")


def _many(users: Sequence[int]) -> str:
    return "/v1/overviews?" + "&".join(f"user_id={user}" for user in users)


async def tour(client: httpx.AsyncClient) -> None:
    """A tour of the demo with its faults. Raises if an answer is not as expected here."""
    print("JSON, while the posts fail")
    answer = await overview(client, 1, {"X-Demo-Fault": "posts=failing"})
    for name in ("user", "posts", "todos"):
        section = answer[name]
        print(describe(name, section))
        if section["status"] == "failed" and section["error"]["retryable"]:
            print(f"  asking again: {section['error']['href']}")
            print(describe(name, await retry(client, section["error"])))
    assert answer["posts"]["status"] == "failed"

    print("JSON, of a user who does not exist")
    try:
        await overview(client, 999)
    except Problem as problem:
        print(f"  {problem.body['status']}: {problem.body['title']}")
    else:
        raise AssertionError("there should be no such user")

    # After 600 ms, a section without an answer is `failed`.
    impatient = {"X-Demo-Fault": "posts=slow", "X-Request-Timeout-Ms": "600"}

    print("Events, while the posts are slow")
    async for event, data in events(client, 1, impatient):
        if event == "section":
            print(describe(**data))
        else:
            print(f"  {event}: {data['status']}, {whether_complete(data)}")
            assert data["status"] == 200

    print("A batch as NDJSON, while the posts are slow")
    landed = []
    async for item in items(client, [1, 999, 2], impatient):
        landed.append(item["user_id"])
        match item:
            case {"status": "ok", "overview": found}:
                said = whether_complete(found)
            case {"status": "failed", "error": error}:
                said = error["title"]
        print(f"  {item['user_id']}: {said}")
    assert landed[0] == 999
    assert len(landed) == 3

    print("The same as JSON")
    batch = await overviews(client, [1, 999, 2], impatient)
    asked = ", ".join(str(item["user_id"]) for item in batch["items"])
    print(f"  in the order asked for: {asked}")


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
            return f"  {name}: not asked for"
    raise ValueError(f"not in the OpenAPI document: {section}")


def whether_complete(answer: Json) -> str:
    return "complete" if answer["complete"] else "not complete"


async def main() -> None:
    # A second more than the longest that the service lets a client wait (`REQUEST_TIMEOUT_MAX`).
    async with httpx.AsyncClient(base_url=sys.argv[1], timeout=11) as client:
        await tour(client)


if __name__ == "__main__":
    asyncio.run(main())
