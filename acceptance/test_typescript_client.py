"""A TypeScript client generated from the OpenAPI narrows each section by its status, cast-free."""

import re
import subprocess
from pathlib import Path

import httpx
import pytest

SOURCE = Path(__file__).parent / "typescript" / "exhaustive.ts"
CASE = re.compile(r"^ *case .*\n", re.MULTILINE)


@pytest.fixture
def client(npm_modules: Path, service_url: str, tmp_path: Path) -> Path:
    """A directory with the types that `openapi-typescript` generates from the service's OpenAPI."""
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{service_url}/openapi.json").raise_for_status().content)
    generate = [str(npm_modules / ".bin" / "openapi-typescript"), str(document)]
    generated = run([*generate, "--output", str(tmp_path / "openapi.d.ts")], tmp_path)
    assert generated.returncode == 0, generated.stderr
    return tmp_path


def test_a_typescript_switch_over_status_is_exhaustive(npm_modules: Path, client: Path) -> None:
    (client / SOURCE.name).write_text(SOURCE.read_text())

    compiled = compile_strictly(npm_modules, client, [SOURCE.name])

    assert compiled.returncode == 0, compiled.stdout


def test_a_typescript_switch_without_a_case_for_a_status_does_not_compile(
    npm_modules: Path, client: Path
) -> None:
    source = SOURCE.read_text()
    incomplete = []
    for number, case in enumerate(CASE.finditer(source), start=1):
        incomplete.append(f"incomplete_{number}.ts")
        (client / incomplete[-1]).write_text(source[: case.start()] + source[case.end() :])
    assert len(incomplete) == 9, "three sections of three statuses"

    compiled = compile_strictly(npm_modules, client, incomplete)

    refused = re.findall(r"^(\w+\.ts).* parameter of type 'never'", compiled.stdout, re.MULTILINE)
    assert set(refused) == set(incomplete), compiled.stdout


def compile_strictly(
    npm_modules: Path, directory: Path, names: list[str]
) -> subprocess.CompletedProcess[str]:
    tsc = str(npm_modules / ".bin" / "tsc")
    return run([tsc, "--noEmit", "--strict", "--pretty", "false", *names], directory)


def run(command: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )
