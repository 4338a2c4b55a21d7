"""What the documents say of the structure of `app/`, held to the code itself."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
APP = ROOT / "app"
LAYERS = sorted(
    path.stem for path in (APP / "resilience/layers").glob("*.py") if path.stem != "__init__"
)

SERVE = """
import asyncio, httpx
from app.main import create_app

async def main():
    app = create_app()
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(
        transport=transport, base_url="http://service.test"
    ) as client:
        for _ in range(2):
            overview = await client.get("/v1/users/1/overview")
            assert overview.json()["complete"] is True, overview.text
        assert (await client.get("/readyz?verbose")).status_code == 200

asyncio.run(main())
"""
SETTINGS = {
    "DEMO_LATENCY": "0",
    "LOG_LEVEL": "error",
    "UPSTREAMS__USERS__TTL": "60",
    "UPSTREAMS__POSTS__HEDGE": "auto",
}


def sources() -> Iterator[Path]:
    return APP.rglob("*.py")


def test_no_private_name_is_imported_by_another_file() -> None:
    private = [
        (str(path.relative_to(ROOT)), alias.name)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert private == []


def test_no_file_has_more_than_200_lines() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources()}
    assert {path: count for path, count in lines.items() if count > 200} == {}


def test_the_api_has_at_most_13_files() -> None:
    assert len(list((APP / "api").rglob("*.py"))) <= 13


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_removed_with_its_file_and_its_entry_in_the_pipeline(
    layer: str, tmp_path: Path
) -> None:
    shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__", "web"))
    (tmp_path / "app/web").symlink_to(APP / "web")
    (tmp_path / f"app/resilience/layers/{layer}.py").unlink()
    pipeline = tmp_path / "app/resilience/pipeline.py"
    pipeline.write_text(without(layer, pipeline.read_text()))
    environment = {"PATH": os.environ["PATH"], **SETTINGS}
    command = [sys.executable, "-c", SERVE]
    served = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert served.returncode == 0, served.stderr


def without(layer: str, source: str) -> str:
    """The pipeline without a layer's import and its entry: an argument, or a statement."""
    tree = ast.parse(source)
    module = f"app.resilience.layers.{layer}"
    (imported,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
    )
    names = {alias.name for alias in imported.names}
    (entry,) = (node for node in entries(tree) if called(node) in names)
    removed = {*lines_of(imported), *lines_of(entry)}
    kept = (line for number, line in enumerate(source.splitlines(), 1) if number not in removed)
    return "\n".join(kept)


def entries(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """What the order of the layers is made of: arguments of `_stack`, and conditions."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="_stack"), args=arguments):
                yield from arguments
            case ast.If():
                yield node


def called(node: ast.expr | ast.stmt) -> str | None:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
        case ast.If(body=[ast.Assign(value=ast.Call(func=ast.Name(id=name)))]):
            return name
    return None


def lines_of(node: ast.expr | ast.stmt) -> range:
    assert node.end_lineno is not None
    return range(node.lineno, node.end_lineno + 1)
