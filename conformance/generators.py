"""The generators, by language, with the commands that a user would type."""

from conformance.tool import Generator

_OPENAPI_GENERATOR = "openapi-generator-cli generate -i openapi.json"


def _typescript(name: str, package: str, generate: str, note: str = "") -> Generator:
    return Generator(
        name,
        package,
        "PyPI" if package == "openapi-generator-cli" else "npm",
        "TypeScript",
        generate,
        compile="tsc --project . --pretty false",
        run="sh run.sh",
        sources=("typescript",),
        switch="main.ts",
        note=note,
    )


def _python(name: str, package: str, generate: str, note: str = "") -> Generator:
    return Generator(
        name,
        package,
        "PyPI",
        "Python",
        generate,
        compile="mypy main.py",
        run="python main.py",
        sources=("python",),
        switch="main.py",
        note=note,
    )


def _go(name: str, package: str, generate: str, note: str = "") -> Generator:
    return Generator(
        name,
        package,
        "PyPI" if package == "openapi-generator-cli" else "Go",
        "Go",
        generate,
        compile="go vet . ./generated",
        run="go run .",
        note=note,
    )


def _jvm(name: str, language: str, generate: str, switch: str | None, note: str) -> Generator:
    return Generator(
        name,
        "openapi-generator-cli",
        "PyPI",
        language,
        generate,
        compile="mvn -q -B compile",
        run="sh run.sh",
        sources=("jvm",),
        switch=switch,
        note=note,
    )


GENERATORS = (
    _typescript(
        "openapi-typescript",
        "openapi-typescript",
        "openapi-typescript openapi.json --output generated/schema.d.ts",
        "called through openapi-fetch",
    ),
    _typescript(
        "hey-api",
        "@hey-api/openapi-ts",
        "openapi-ts --input openapi.json --output generated",
        "the newest for Node.js 20",
    ),
    _typescript(
        "orval",
        "orval",
        "orval --input openapi.json --output generated/client.ts --client fetch",
        "the newest for Node.js 20",
    ),
    _typescript(
        "kubb",
        "@kubb/cli",
        "kubb generate --config kubb.config.js",
        "with its axios client: its fetch client takes no headers but strings, is generated with a "
        "number for `X-Request-Timeout-Ms`, and so does not compile",
    ),
    _typescript(
        "swagger-typescript-api",
        "swagger-typescript-api",
        "swagger-typescript-api generate --path openapi.json --output generated --name api.ts",
        "the type of an error is lost when it is thrown",
    ),
    _typescript(
        "typed-openapi",
        "typed-openapi",
        "typed-openapi openapi.json --output generated/client.ts",
        "wants `query: {}` and `header: {}` even where nothing in them is required",
    ),
    _typescript(
        "openapi-zod-client",
        "openapi-zod-client",
        "openapi-zod-client openapi.json --output generated/client.ts --export-schemas",
        "knows no `application/problem+json`: an error has the type `void`, so the client parses "
        "it by its schema",
    ),
    _typescript(
        "openapi-generator-typescript-fetch",
        "openapi-generator-cli",
        f"{_OPENAPI_GENERATOR} -g typescript-fetch -o generated",
    ),
    _python(
        "openapi-python-client",
        "openapi-python-client",
        "openapi-python-client generate --path openapi.json --meta none --output-path generated"
        " --overwrite",
        "mypy's strict rules find mistakes in its own `client.py`, which is the same for every "
        "document",
    ),
    _python(
        "datamodel-code-generator",
        "datamodel-code-generator",
        "datamodel-codegen --input openapi.json --input-file-type openapi --output generated.py"
        " --output-model-type pydantic_v2.BaseModel --target-python-version 3.11 --use-annotated",
        "models alone: called through httpx",
    ),
    _python(
        "openapi-generator-python",
        "openapi-generator-cli",
        f"{_OPENAPI_GENERATOR} -g python -o . --package-name generated",
        "a section is in `actual_instance`; its own code is not typed strictly",
    ),
    _jvm(
        "openapi-generator-java",
        "Java",
        f"{_OPENAPI_GENERATOR} -g java -o generated"
        " --additional-properties=disallowAdditionalPropertiesIfNotPresent=false",
        None,
        "without that option, a member that it does not know breaks it; a section is in "
        "`getActualInstance()`, or `getUserOk()`",
    ),
    _jvm(
        "openapi-generator-kotlin",
        "Kotlin",
        f"{_OPENAPI_GENERATOR} -g kotlin -o generated --library jvm-retrofit2"
        " --additional-properties=serializationLibrary=kotlinx_serialization,"
        "generateOneOfAnyOfWrappers=true,useCoroutines=true",
        "src/Main.kt",
        "without these options, a union is an interface that none of its alternatives implements",
    ),
    _go(
        "openapi-generator-go",
        "openapi-generator-cli",
        f"{_OPENAPI_GENERATOR} -g go -o generated --package-name generated"
        " --additional-properties=withGoMod=false,useOneOfDiscriminatorLookup=true,"
        "disallowAdditionalPropertiesIfNotPresent=false",
        "without the last two options, a member that it does not know breaks it",
    ),
    _go(
        "oapi-codegen",
        "github.com/oapi-codegen/oapi-codegen/v2",
        "go tool oapi-codegen -generate models,client -package generated -o generated/client.go"
        " openapi.json",
        "a section is read by `ValueByDiscriminator()`",
    ),
    _go(
        "ogen",
        "github.com/ogen-go/ogen",
        "go tool ogen --target generated --package generated --clean openapi.json",
        "a section has the `Type` to switch over",
    ),
)
