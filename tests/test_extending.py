"""`docs/extending.md`, done as it is written: a new section in one file and two lines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHECK = """
import asyncio, json
import httpx
from pydantic import TypeAdapter
from app.composition.models import view_models
from app.main import create_app
from app.views.overview import overview

BODIES = {
    "/users/1": {"id": 1, "name": "Ada", "username": "ada", "email": "ada@example.org"},
    "/posts": [], "/todos": [],
    "/albums": [{"userId": 1, "id": 1, "title": "Weirs"}, {"userId": 1, "id": "two"}],
}

async def main():
    answer = lambda request: httpx.Response(200, json=BODIES[request.url.path])
    app = create_app(transport=httpx.MockTransport(answer))
    async with app.router.lifespan_context(app), httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://service.test"
    ) as client:
        whole = (await client.get("/v1/users/1/overview")).json()
        assert list(whole) == ["user_id", "complete", "user", "posts", "todos", "albums"]
        albums = whole["albums"]
        assert (albums["data"], albums["dropped"]) == (BODIES["/albums"][:1], 1)
        alone = (await client.get("/v1/users/1/overview?include=albums&require=albums")).json()
        assert alone["user"] == {"status": "skipped"} and alone["albums"]["status"] == "ok"
        events = await client.get("/v1/users/1/overview", headers={"Accept": "text/event-stream"})
        assert 'data: {"name":"albums","section":{"status":"ok"' in events.text
        batch = (await client.get("/v1/overviews?user_id=1")).json()
        assert batch["items"][0]["overview"]["albums"]["status"] == "ok"
        assert 'data-sections="user,posts,todos,albums"' in (await client.get("/")).text
        document = (await client.get("/openapi.json?version=3.2")).json()
    assert {"AlbumsOk", "AlbumsLanded"} <= set(document["components"]["schemas"])
    answers = document["paths"][overview.path]["get"]["responses"]["200"]["content"]
    models, examples = view_models(overview), answers["application/json"]["examples"]
    for example in examples.values():
        parsed = models.answer.model_validate(example["value"])
        assert parsed.model_dump(mode="json", exclude_unset=True) == example["value"]

asyncio.run(main())
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The code of the service, to change as the document says."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_section_of_a_new_upstream_takes_one_file_and_two_lines(checkout: Path) -> None:
    text = (ROOT / "docs/extending.md").read_text()
    blocks = re.findall(r"^ {3}```python\n(.*?)^ {3}```", text, re.MULTILINE | re.DOTALL)
    setting, source, section = (re.sub(r"^ {3}", "", block, flags=re.MULTILINE) for block in blocks)
    assert (setting.count("\n"), section.count("\n")) == (1, 1)

    insert(checkout / "app/settings.py", after="    todos: UpstreamSettings", line=setting)
    (checkout / "app/sources/albums.py").write_text(source)
    view = checkout / "app/views/overview.py"
    insert(view, after='        "todos": Section(', line=section)
    view.write_text(view.read_text().replace("import posts, todos", "import albums, posts, todos"))

    environment = {
        "PATH": os.environ["PATH"],
        "UPSTREAM_URL": "http://upstream.test",
        "LOG_LEVEL": "error",
    }
    checked = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def insert(path: Path, *, after: str, line: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    (place,) = (number for number, one in enumerate(lines) if one.startswith(after))
    path.write_text("".join([*lines[: place + 1], line, *lines[place + 1 :]]))
