"""The examples do what their README says, and parse a stream wherever its chunks split."""

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
CLIENT_TIMEOUT = 10.0  # seconds: a client takes about one to start

# Each prints what `events` or `items` yields as JSON; with `stop` only the first result.
READERS = {
    "TypeScript": """
import { Tributary } from "./build/client.js";

const [, url, method, argument, stop] = process.argv;
for await (const result of new Tributary(url)[method](JSON.parse(argument))) {
  console.log(JSON.stringify(result));
  if (stop) break;
}
if (stop) setTimeout(() => {}, 60_000);
""",
    "Python": """
import asyncio, contextlib, json, sys
import client, httpx

async def main(url, method, argument, stop=None):
    async with httpx.AsyncClient(base_url=url) as http:
        results = getattr(client, method)(http, json.loads(argument))
        async with contextlib.aclosing(results):
            async for result in results:
                if method == "events":
                    result = dict(zip(("event", "data"), result))
                print(json.dumps(result))
                if stop:
                    break
        await asyncio.sleep(60 if stop else 0)

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
    generated = ignore_patterns("node_modules", "build", "schema.d.ts", "__pycache__")
    directory = tmp_path_factory.mktemp("clone")
    copytree(ROOT / "examples", directory / "examples", ignore=generated)
    return directory


@pytest.fixture(scope="module", params=get_args(Language))
def language(request: pytest.FixtureRequest) -> Language:
    language: Language = request.param
    return language


@pytest.fixture(scope="module")
def tour(language: Language, clone: Path, demo: str) -> dict[str, list[str]]:
    """The lines printed below each heading of the tour, run as the README says."""
    finished = run_shell(readme_commands(language), clone, demo)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    output: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in finished.stdout.splitlines():
        if line.startswith("  "):
            lines.append(line.strip())
        else:
            output[line] = lines = []
    return output


def readme_commands(language: Language) -> str:
    """The shell commands of the README for this language."""
    _, _, section = (ROOT / "examples" / "README.md").read_text().partition(f"\n## {language}\n")
    console, _, _ = section.partition("\n```console\n")[2].partition("```")
    return "".join(f"{command}\n" for command in re.findall(r"^\$ (.+)$", console, re.MULTILINE))


def run_shell(text: str, clone: Path, url: str) -> subprocess.CompletedProcess[str]:
    """Run the commands in a shell, with the service at `url`."""
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


def test_a_failed_section_says_why_and_recovers_by_a_retry_of_its_href(
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


def test_an_unknown_user_is_a_404_problem(tour: dict[str, list[str]]) -> None:
    assert tour["JSON, of a user who does not exist"] == ["404: There is no such resource"]


def test_sse_events_come_as_each_section_completes_and_end_with_done(
    tour: dict[str, list[str]],
) -> None:
    first, second, last, done = tour["Events, while the posts are slow"]

    assert sorted(line.partition(":")[0] for line in (first, second)) == ["todos", "user"]
    timeout = r"posts: The upstream did not answer in time \(posts: no answer within ([\d.]+) s\)"
    match = re.fullmatch(timeout, last)
    assert match
    assert float(match[1]) <= 0.6
    assert done == "done: 200, not complete"


def test_ndjson_batch_items_come_as_each_user_completes(tour: dict[str, list[str]]) -> None:
    first, *rest = tour["A batch as NDJSON, while the posts are slow"]

    assert first == "999: There is no such resource"
    assert sorted(rest) == ["1: not complete", "2: not complete"]
    assert tour["The same as JSON"] == ["in request order: 1, 999, 2"]


@pytest.mark.usefixtures("tour")
def test_a_tour_exits_with_an_error_if_the_service_has_no_demo_faults(
    language: Language, clone: Path
) -> None:
    commands = readme_commands(language).replace("npm ci\nnpm run generate\n", "")
    with demo_upstream() as upstream, service(UPSTREAM_URL=upstream) as url:
        finished = run_shell(commands, clone, url)

    assert "JSON, while the posts fail" in finished.stdout
    assert finished.returncode != 0


@pytest.mark.parametrize("language", ["TypeScript"], indirect=True, scope="module")
@pytest.mark.usefixtures("tour")
def test_a_typescript_tour_that_forgets_a_case_does_not_compile(clone: Path, demo: str) -> None:
    directory = clone / "examples" / "typescript"
    source = (directory / "main.ts").read_text()
    incomplete = []
    for number, case in enumerate(CASE.finditer(source), start=1):
        incomplete.append(f"incomplete_{number}.ts")
        (directory / incomplete[-1]).write_text(source[: case.start()] + source[case.end() :])
    assert len(incomplete) == 2 + 2 + 3 + 9, "events, items, sections, and answers"

    compiled = run_shell("cd examples/typescript\nnpx tsc --noEmit --pretty false", clone, demo)

    rejected = re.findall(r"^(\w+\.ts).* parameter of type 'never'", compiled.stdout, re.MULTILINE)
    assert sorted(rejected) == sorted(incomplete), compiled.stdout


@pytest.mark.usefixtures("tour")
def test_sse_events_are_parsed_wherever_chunks_split(language: Language, clone: Path) -> None:
    stream = [
        b': a comment\r\n\r\nevent: section\r\ndata: {"name":"user",\r\n',
        b'data: "section":{"status":"skipped"}}\r\n\r\n',
        'id: 7\rretry\revent:section\rdata:{"name":"été \u2028 🌊"}\r\r'.encode(),
        b"event: section\n\n: ping\n\n",
        DONE,
        b'event: section\ndata: {"name":"too late"}\n\n',
    ]
    with (
        stream_server(b"".join(stream)) as (url, _),
        example_client(language, clone, url, "events", 1) as results,
    ):
        events = list(results)

    assert events == [
        {"event": "section", "data": {"name": "user", "section": {"status": "skipped"}}},
        {"event": "section", "data": {"name": "été \u2028 🌊"}},
        {"event": "done", "data": {"user_id": 1, "complete": False, "status": 200}},
    ]


@pytest.mark.usefixtures("tour")
def test_ndjson_items_are_parsed_wherever_chunks_split(language: Language, clone: Path) -> None:
    stream = '{"user_id":1,"text":"été \u2028 🌊"}\n{"user_id":2}'.encode()
    with (
        stream_server(stream) as (url, _),
        example_client(language, clone, url, "items", [1, 2]) as results,
    ):
        items = list(results)

    assert items == [{"user_id": 1, "text": "été \u2028 🌊"}, {"user_id": 2}]


@pytest.mark.usefixtures("tour")
@pytest.mark.parametrize("ending", [b"", DONE[:-1]], ids=["missing", "cut short"])
def test_an_sse_stream_without_a_done_event_is_an_error(
    language: Language, clone: Path, ending: bytes
) -> None:
    stream = b'event: section\ndata: {"name":"user"}\n\n' + ending
    with (
        stream_server(stream) as (url, _),
        pytest.raises(AssertionError, match="the stream ended before it was done"),
        example_client(language, clone, url, "events", 1) as results,
    ):
        events = list(results)

    assert events == [{"event": "section", "data": {"name": "user"}}]


@pytest.mark.usefixtures("tour")
@pytest.mark.parametrize("method", ["events", "items"])
def test_a_client_that_leaves_the_loop_disconnects(
    language: Language, clone: Path, method: str
) -> None:
    argument: object = 1 if method == "events" else [1]
    stream = DONE.replace(b"done", b"section") if method == "events" else b"{}\n"
    with (
        stream_server(stream, ends=False) as (url, disconnected),
        example_client(language, clone, url, method, argument, "stop") as results,
    ):
        next(results)
        assert disconnected.wait(CLIENT_TIMEOUT)


@contextmanager
def stream_server(stream: bytes, *, ends: bool = True) -> Iterator[tuple[str, Event]]:
    """A URL that answers `stream` in one-byte chunks, and an event that a client disconnected."""
    disconnected = Event()

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
                    time.sleep(0.001)  # so that each chunk is read on its own
                if ends:
                    self.wfile.write(b"0\r\n\r\n")
                self.rfile.read(1)
            disconnected.set()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}", disconnected
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def example_client(
    language: Language, clone: Path, url: str, method: str, argument: object, *stop: str
) -> Iterator[Iterator[Any]]:
    """The results of an example client as it yields them; unless stopped, it must exit with 0."""
    command = {
        "TypeScript": ["node", "--input-type=module", "--eval"],
        "Python": [sys.executable, "-c"],
    }[language]
    with subprocess.Popen(
        [*command, READERS[language], url, method, json.dumps(argument), *stop],
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
            if stop:
                assert process.poll() is None
            else:
                assert process.wait(CLIENT_TIMEOUT) == 0, process.stderr.read()
        finally:
            process.kill()
