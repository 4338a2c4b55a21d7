"""The OpenAPI document, on which generated clients rely."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from app.api.health import Alive, Readiness
from app.problems.responses import InvalidRequest, Problem
from app.problems.types import ProblemType
from app.views.overview import overview
from tests.in_process import MODELS, ServiceClient, body_of, running_demo, validated

pytestmark = pytest.mark.anyio

JSON, PROBLEM = "application/json", "application/problem+json"
SSE, NDJSON = "text/event-stream", "application/x-ndjson"
OVERVIEW, BATCH = overview.path, overview.batch
DOCUMENTED: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        *(Alive, InvalidRequest, Problem, ProblemType, Readiness),
        *(MODELS.answer, MODELS.batch, MODELS.failed, MODELS.not_found),
    )
}


@pytest.fixture
async def document(service: ServiceClient) -> dict[str, Any]:
    document = (await service.get("/openapi.json")).json()
    assert isinstance(document, dict)
    return document


@pytest.fixture
async def with_streams(service: ServiceClient) -> dict[str, Any]:
    document = (await service.get("/openapi.json?version=3.2")).json()
    assert isinstance(document, dict)
    return document


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Path, status, media type and content of every documented body."""
    for path, item in document["paths"].items():
        for status, response in item["get"]["responses"].items():
            for media_type, content in response.get("content", {}).items():
                yield path, status, media_type, content


def within(node: object, key: str) -> Iterator[Any]:
    """Every value of `key`, at any depth."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from within(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from within(value, key)


async def test_every_route_is_documented_and_described(document: dict[str, Any]) -> None:
    assert set(document["paths"]) == {OVERVIEW, BATCH, "/livez", "/readyz", "/problems/{slug}"}
    for item in document["paths"].values():
        assert list(item) == ["get"]
        assert item["get"]["summary"]
        assert item["get"]["description"]


async def test_every_reference_has_its_schema(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    references = set(within(document, "$ref")) | {
        target for mapping in within(document, "mapping") for target in mapping.values()
    }
    assert references
    for reference in references:
        assert reference.removeprefix("#/components/schemas/") in schemas, reference


@pytest.mark.parametrize(
    ("query", "version"), [("", "3.1.0"), ("?version=3.1", "3.1.0"), ("?version=3.2", "3.2.0")]
)
async def test_the_version_is_what_every_generator_reads_unless_another_is_asked_for(
    service: ServiceClient, query: str, version: str
) -> None:
    document = (await service.get(f"/openapi.json{query}")).json()
    assert document["openapi"] == version
    assert bool([*within(document, "itemSchema")]) is (version == "3.2.0")


@pytest.mark.parametrize("version", ["", "3", "3.0", "3.1.0", "4"])
async def test_an_unknown_version_is_a_422_that_names_the_parameter(
    service: ServiceClient, version: str
) -> None:
    response = await service.get(f"/openapi.json?version={version}")
    (error,) = body_of(response, InvalidRequest)["errors"]
    assert (response.status_code, error["parameter"]) == (422, "version")


async def test_the_document_is_revalidated_by_its_etag(service: ServiceClient) -> None:
    first = await service.get("/openapi.json")
    assert first.headers["cache-control"] == "no-cache"
    tag = {"If-None-Match": first.headers["etag"]}
    again = await service.get("/openapi.json", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    other = await service.get("/openapi.json?version=3.2", headers=tag)
    assert other.status_code == 200


async def test_the_document_says_where_who_and_under_which_licence(
    document: dict[str, Any],
) -> None:
    assert document["servers"] == [{"url": "/"}]
    assert document["security"] == []
    assert document["info"]["contact"]["name"]
    assert document["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


async def test_every_schema_is_in_words_that_every_generator_reads(
    document: dict[str, Any],
) -> None:
    for schema in schemas_within(document):
        assert "title" not in schema
        assert "anyOf" not in schema
        assert ("const" not in schema) or schema["enum"] == [schema["const"]]
        if schema.get("type") == "integer":
            wide = schema.get("maximum", 0) > 2**31
            assert schema.get("format") == ("int64" if wide else None)
        assert schema.get("enum") != []
        assert not {"", None} & set(schema.get("enum", []))
        inline = [one for one in schema.get("oneOf", []) if "$ref" not in one]
        assert len([one for one in inline if one != {"type": "null"}]) <= 1


async def test_every_id_has_sixty_four_bits(document: dict[str, Any]) -> None:
    ids = [
        property_
        for schema in schemas_within(document)
        for name, property_ in schema.get("properties", {}).items()
        if name in ("id", "userId", "user_id")
    ]
    assert len(ids) == 8
    assert all(one["format"] == "int64" for one in ids)


def schemas_within(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema, those within others too."""
    yield from _schemas([*document["components"]["schemas"].values()])
    yield from _schemas([*within(document["paths"], "schema")])


def _schemas(nodes: list[Any]) -> Iterator[dict[str, Any]]:
    for node in nodes:
        yield node
        yield from _schemas([*node.get("properties", {}).values()])
        yield from _schemas(node.get("oneOf", []))
        yield from _schemas([node[name] for name in ("items", "contentSchema") if name in node])


@pytest.mark.parametrize("version", ["3.1", "3.2"])
async def test_every_schema_is_referenced(service: ServiceClient, version: str) -> None:
    document = (await service.get(f"/openapi.json?version={version}")).json()
    used = {reference.rsplit("/", 1)[-1] for reference in within(document, "$ref")}
    assert used == set(document["components"]["schemas"])


async def test_a_generated_client_gets_one_type_for_each_status(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for status, response in item["get"]["responses"].items():
            assert list(response["content"]) == [JSON if status == "200" else PROBLEM], path


async def test_errors_are_problem_json_and_successes_json_sse_or_ndjson(
    with_streams: dict[str, Any],
) -> None:
    streams = {OVERVIEW: {SSE}, BATCH: {NDJSON}, "/problems/{slug}": {"text/html"}}
    media_types: dict[tuple[str, str], set[str]] = {}
    for path, status, media_type, _ in contents(with_streams):
        media_types.setdefault((path, status), set()).add(media_type)
    for (path, status), documented in media_types.items():
        success = {JSON} | streams.get(path, set())
        assert documented == (success if status == "200" else {PROBLEM}), (path, status)
    assert {"204", "304"} <= set(with_streams["paths"][OVERVIEW]["get"]["responses"])


async def test_every_422_is_documented_as_an_invalid_request(
    document: dict[str, Any],
) -> None:
    for path, item in document["paths"].items():
        responses = item["get"]["responses"]
        if "422" in responses:
            schema = responses["422"]["content"][PROBLEM]["schema"]
            assert schema == {"$ref": "#/components/schemas/InvalidRequest"}, path


@pytest.mark.parametrize(
    ("status", "examples"),
    [
        ("200", {"complete", "one_section_failed", "included_only", "stale"}),
        ("401", {"unauthorized"}),
        ("403", {"forbidden"}),
        ("404", {"no_such_user"}),
        ("422", {"unknown_section"}),
        ("502", {"required_failed"}),
        ("503", {"overloaded", "circuit_open"}),
        ("504", {"all_late"}),
    ],
)
async def test_every_case_has_a_named_example(
    document: dict[str, Any], status: str, examples: set[str]
) -> None:
    content = document["paths"][OVERVIEW]["get"]["responses"][status]["content"]
    named = content[JSON if status == "200" else PROBLEM]["examples"]
    assert set(named) == examples
    assert all(example["summary"] for example in named.values())


async def test_every_example_validates_against_its_model(document: dict[str, Any]) -> None:
    validated_examples = 0
    for path, status, media_type, content in contents(document):
        if media_type in (SSE, NDJSON, "text/html"):
            continue
        model = DOCUMENTED[content["schema"]["$ref"].rsplit("/", 1)[-1]]
        for name, example in content.get("examples", {}).items():
            value = example["value"]
            validated(value, model)
            assert value.get("status", 200) == int(status), (path, name)
            validated_examples += 1
    assert validated_examples == 14


async def test_the_sse_example_validates_against_the_event_models(
    with_streams: dict[str, Any],
) -> None:
    models: dict[str, type[BaseModel]] = {
        "section": MODELS.section_event,
        "done": MODELS.done_event,
    }
    content = with_streams["paths"][OVERVIEW]["get"]["responses"]["200"]["content"][SSE]
    (example,) = content["examples"].values()
    events = [event.splitlines() for event in example["value"].split("\n\n") if event]
    assert [kind for kind, _ in events] == ["event: section"] * 3 + ["event: done"]
    for kind, data in events:
        model = models[kind.removeprefix("event: ")]
        value = json.loads(data.removeprefix("data: "))
        validated(value, model)
    documented = {
        event["properties"]["event"]["const"]: event["properties"]["data"]["contentSchema"]["$ref"]
        for event in content["itemSchema"]["oneOf"]
    }
    assert documented == {
        kind: f"#/components/schemas/{model.__name__}" for kind, model in models.items()
    }


async def test_the_ndjson_example_validates_against_the_batch_item_model(
    with_streams: dict[str, Any],
) -> None:
    content = with_streams["paths"][BATCH]["get"]["responses"]["200"]["content"][NDJSON]
    assert content["schema"]["contentSchema"] == {"$ref": "#/components/schemas/BatchItem"}
    (example,) = content["examples"].values()
    lines = [json.loads(line) for line in example["value"].splitlines()]
    assert [line["status"] for line in lines] == ["failed", "ok"]
    for value in lines:
        validated(value, MODELS.item)


@pytest.mark.parametrize("name", ["user", "posts", "todos"])
@pytest.mark.parametrize("schema", ["Overview", "Sections"])
async def test_a_section_is_a_union_discriminated_by_status(
    document: dict[str, Any], schema: str, name: str
) -> None:
    schemas = document["components"]["schemas"]
    reference = schemas[schema]["properties"][name]["$ref"]
    assert reference == f"#/components/schemas/{name.title()}Section"
    section = schemas[reference.rsplit("/", 1)[-1]]
    assert name in schemas[schema]["required"]
    assert section["discriminator"]["propertyName"] == "status"
    mapping = section["discriminator"]["mapping"]
    assert set(mapping) == {"ok", "failed", "skipped"}
    assert {alternative["$ref"] for alternative in section["oneOf"]} == set(mapping.values())
    for status, reference in mapping.items():
        alternative = schemas[reference.rsplit("/", 1)[-1]]
        assert alternative["properties"]["status"]["const"] == status
        assert "status" in alternative["required"]


async def test_the_response_headers_are_documented(document: dict[str, Any]) -> None:
    headers = document["paths"][OVERVIEW]["get"]["responses"]["200"]["headers"]
    assert {"ETag", "X-Complete", "X-Request-ID", "Cache-Control", "Server-Timing"} <= set(headers)


def parameters(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    documented = document["paths"][OVERVIEW]["get"]["parameters"]
    return {parameter["name"].lower(): parameter for parameter in documented}


async def test_the_parameters_are_those_of_the_contract(document: dict[str, Any]) -> None:
    by_name = parameters(document)
    assert set(by_name) == {
        *("user_id", "include", "require", "explain", "timeout_ms", "x-request-timeout-ms")
    }
    assert by_name["user_id"]["schema"]["minimum"] == 1
    assert by_name["user_id"]["schema"]["maximum"] == 2**53 - 1
    assert all(parameter["description"] for parameter in by_name.values())


async def test_batch_max_is_documented() -> None:
    async with running_demo(batch_max=7) as service:
        document = (await service.get("/openapi.json")).json()
    (user_id,) = [
        parameter
        for parameter in document["paths"][BATCH]["get"]["parameters"]
        if parameter["name"] == "user_id"
    ]
    assert user_id["required"]
    assert user_id["schema"]["maxItems"] == 7
    assert user_id["schema"]["items"]["maximum"] == 2**53 - 1


async def test_demo_faults_are_documented_with_the_demo() -> None:
    async with running_demo() as service:
        by_name = parameters((await service.get("/openapi.json")).json())
    assert "Demo only" in by_name["x-demo-fault"]["description"]
