"""The examples do what their README says, and read a stream however it comes."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree, ignore_patterns
from threading import Event, Thread
from typing import Any, Literal, get_args

import httpx
import pytest

from acceptance.processes import LOOPBACK, ROOT, demo_upstream, service

Language = Literal["TypeScript", "Python"]

CASE = re.compile(r"^( *)case .+:\n(?:\1 +.+\n)*", re.MULTILINE)
DONE = b'event: done\ndata: {"user_id":1,"complete":false,"status":200}\n\n'
PATIENCE = 10.0  # seconds: a client takes about one to begin

# Each prints what `events` or `items` yields, as JSON; told to leave, it stops after the first.
READERS = {
    "TypeScript": """
import { Tributary } from "./build/client.js";

const [, url, method, of, leave] = process.argv;
for await (const one of new Tributary(url)[method](JSON.parse(of))) {
  console.log(JSON.stringify(one));
  if (leave) break;
}
if (leave) setTimeout(() => {}, 60_000);
""",
    "Python": """
import asyncio, contextlib, json, sys
import client, httpx

async def main(url, method, of, leave=None):
    async with httpx.AsyncClient(base_url=url) as http:
        reading = getattr(client, method)(http, json.loads(of))
        async with contextlib.aclosing(reading):
            async for one in reading:
                print(json.dumps(dict(zip(("event", "data"), one)) if method == "events" else one))
                if leave:
                    break
        await asyncio.sleep(60 if leave else 0)

asyncio.run(main(*sys.argv[1:]))
""",
}


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    with service() as url:
        yield url


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the examples as they are committed."""
    made = ignore_patterns("node_modules", "build", "schema.d.ts", "__pycache__")
    directory = tmp_path_factory.mktemp("clone")
    copytree(ROOT / "examples", directory / "examples", ignore=made)
    return directory


@pytest.fixture(scope="module", params=get_args(Language))
def language(request: pytest.FixtureRequest) -> Language:
    chosen: Language = request.param
    return chosen


@pytest.fixture(scope="module")
def tour(language: Language, clone: Path, demo: str) -> dict[str, list[str]]:
    """What is printed beneath each heading of a tour, after all that the README says."""
    done = typed(commands(language), clone, demo)
    assert done.returncode == 0, done.stdout + done.stderr
    beneath: dict[str, list[str]] = {}
    below: list[str] = []
    for line in done.stdout.splitlines():
        if line.startswith("  "):
            below.append(line.strip())
        else:
            beneath[line] = below = []
    return beneath


def commands(language: Language) -> str:
    """What the README has a user type."""
    _, _, below = (ROOT / "examples" / "README.md").read_text().partition(f"\n## {language}\n")
    console, _, _ = below.partition("\n```console\n")[2].partition("```")
    return "".join(f"{one}\n" for one in re.findall(r"^\$ (.+)$", console, re.MULTILINE))


def typed(text: str, clone: Path, url: str) -> subprocess.CompletedProcess[str]:
    """The outcome of commands for a service that is at `url`."""
    text = text.replace("http://127.0.0.1:8000", url)
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TRIBUTARY_URL": url,
        "npm_config_prefer_offline": "true",
    }
    return subprocess.run(
        ["sh", "-e", "-c", text],
        cwd=clone,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_failed_section_is_explained_and_healed_through_its_href(
    tour: dict[str, list[str]], demo: str
) -> None:
    overview = httpx.get(f"{demo}/v1/users/1/overview").json()

    user, failed, retrying, *recovered = tour["JSON, while the posts fail"]

    assert user == f"user: {overview['user']['data']['name']}"
    assert failed.startswith("posts: The upstream answered with an error (posts: ")
    assert retrying == "retrying: /v1/users/1/overview?include=posts"
    assert recovered == [
        f"{name}: {len(overview[name]['data'])} items" for name in ("posts", "todos")
    ]


def test_a_problem_is_told_from_an_overview(tour: dict[str, list[str]]) -> None:
    assert tour["JSON, of a user who does not exist"] == ["404: There is no such resource"]


def test_sections_are_told_as_they_land_until_all_is_done(tour: dict[str, list[str]]) -> None:
    first, second, last, done = tour["Events, while the posts are slow"]

    assert sorted(line.partition(":")[0] for line in (first, second)) == ["todos", "user"]
    late = r"posts: The upstream did not answer in time \(posts: no answer within ([\d.]+) s\)"
    waited = re.fullmatch(late, last)
    assert waited
    assert float(waited[1]) <= 0.6
    assert done == "done: 200, not complete"


def test_the_items_of_a_batch_are_told_as_they_are_complete(tour: dict[str, list[str]]) -> None:
    first, *rest = tour["A batch as NDJSON, while the posts are slow"]

    assert first == "999: There is no such resource"
    assert sorted(rest) == ["1: not complete", "2: not complete"]
    assert tour["The same as JSON"] == ["in request order: 1, 999, 2"]


@pytest.mark.usefixtures("tour")
def test_a_tour_of_a_service_that_does_not_misbehave_fails(language: Language, clone: Path) -> None:
    again = commands(language).replace("npm ci\nnpm run generate\n", "")
    with demo_upstream() as upstream, service(UPSTREAM_URL=upstream) as url:
        done = typed(again, clone, url)

    assert "JSON, while the posts fail" in done.stdout
    assert done.returncode != 0


@pytest.mark.parametrize("language", ["TypeScript"], indirect=True, scope="module")
@pytest.mark.usefixtures("tour")
def test_a_tour_that_forgets_a_case_does_not_compile(clone: Path, demo: str) -> None:
    directory = clone / "examples" / "typescript"
    source = (directory / "main.ts").read_text()
    forgetful = []
    for number, case in enumerate(CASE.finditer(source), start=1):
        forgetful.append(f"forgetful_{number}.ts")
        (directory / forgetful[-1]).write_text(source[: case.start()] + source[case.end() :])
    assert len(forgetful) == 2 + 2 + 3 + 6, "events, items, sections, and answers"

    compiled = typed("cd examples/typescript\nnpx tsc --noEmit --pretty false", clone, demo)

    refused = re.findall(r"^(\w+\.ts).* parameter of type 'never'", compiled.stdout, re.MULTILINE)
    assert sorted(refused) == sorted(forgetful), compiled.stdout


@pytest.mark.usefixtures("tour")
def test_events_are_read_wherever_they_are_split(language: Language, clone: Path) -> None:
    stream = [
        b': a comment\r\n\r\nevent: section\r\ndata: {"name":"user",\r\n',
        b'data: "section":{"status":"skipped"}}\r\n\r\n',
        'id: 7\rretry\revent:section\rdata:{"name":"été \u2028 🌊"}\r\r'.encode(),
        b"event: section\n\n: ping\n\n",
        DONE,
        b'event: section\ndata: {"name":"too late"}\n\n',
    ]
    with serving(b"".join(stream)) as (url, _), reading(language, clone, url, "events", 1) as read:
        events = list(read)

    assert events == [
        {"event": "section", "data": {"name": "user", "section": {"status": "skipped"}}},
        {"event": "section", "data": {"name": "été \u2028 🌊"}},
        {"event": "done", "data": {"user_id": 1, "complete": False, "status": 200}},
    ]


@pytest.mark.usefixtures("tour")
def test_items_are_read_wherever_they_are_split(language: Language, clone: Path) -> None:
    stream = '{"user_id":1,"said":"été \u2028 🌊"}\n{"user_id":2}'.encode()
    with serving(stream) as (url, _), reading(language, clone, url, "items", [1, 2]) as read:
        items = list(read)

    assert items == [{"user_id": 1, "said": "été \u2028 🌊"}, {"user_id": 2}]


@pytest.mark.usefixtures("tour")
@pytest.mark.parametrize("ending", [b"", DONE[:-1]], ids=["missing", "cut short"])
def test_events_without_their_end_are_an_error(
    language: Language, clone: Path, ending: bytes
) -> None:
    stream = b'event: section\ndata: {"name":"user"}\n\n' + ending
    with (
        serving(stream) as (url, _),
        pytest.raises(AssertionError, match="the stream ended before it was done"),
        reading(language, clone, url, "events", 1) as read,
    ):
        events = list(read)

    assert events == [{"event": "section", "data": {"name": "user"}}]


@pytest.mark.usefixtures("tour")
@pytest.mark.parametrize("method", ["events", "items"])
def test_whoever_leaves_the_loop_hangs_up(language: Language, clone: Path, method: str) -> None:
    of: object = 1 if method == "events" else [1]
    stream = DONE.replace(b"done", b"section") if method == "events" else b"{}\n"
    with (
        serving(stream, ends=False) as (url, left),
        reading(language, clone, url, method, of, "leave") as read,
    ):
        next(read)
        assert left.wait(PATIENCE)


@contextmanager
def serving(stream: bytes, *, ends: bool = True) -> Iterator[tuple[str, Event]]:
    """A URL that answers with `stream` in pieces of one byte, and whether a client has left it."""
    left = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", self.headers["Accept"])
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(ConnectionError):
                for byte in stream:
                    self.wfile.write(b"1\r\n%c\r\n" % byte)
                    time.sleep(0.001)  # so that each is read on its own
                if ends:
                    self.wfile.write(b"0\r\n\r\n")
                self.rfile.read(1)
            left.set()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", left
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def reading(
    language: Language, clone: Path, url: str, method: str, of: object, *leave: str
) -> Iterator[Iterator[Any]]:
    """What a client yields, when it does; unless it leaves early, it has to end well."""
    command = {
        "TypeScript": ["node", "--input-type=module", "--eval"],
        "Python": [sys.executable, "-c"],
    }[language]
    with subprocess.Popen(
        [*command, READERS[language], url, method, json.dumps(of), *leave],
        cwd=clone / "examples" / language.lower(),
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout
        assert process.stderr
        try:
            yield map(json.loads, process.stdout)
            if leave:
                assert process.poll() is None
            else:
                assert process.wait(PATIENCE) == 0, process.stderr.read()
        finally:
            process.kill()
