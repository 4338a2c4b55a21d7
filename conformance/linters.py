"""The linters, with the rules that they recommend."""

from conformance.tool import Linter

LINTERS = (
    Linter(
        "redocly",
        "@redocly/cli",
        "npm",
        "`recommended`, warnings as errors",
        "redocly lint --extends recommended-strict openapi.json",
    ),
    Linter(
        "spectral",
        "@stoplight/spectral-cli",
        "npm",
        "`spectral:oas`, hints as errors",
        "spectral lint --fail-severity hint openapi.json",
    ),
)
