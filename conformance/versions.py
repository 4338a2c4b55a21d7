"""The version of a tool, from the file that pins it."""

import json
import re
from importlib import metadata

from conformance.commands import HERE
from conformance.tool import Tool


def version_of(tool: Tool) -> str:
    match tool.registry:
        case "npm":
            pinned = json.loads((HERE / "package.json").read_text())["devDependencies"]
            return str(pinned[tool.package])
        case "PyPI":
            return metadata.version(tool.package)
        case "Go":
            pattern = rf"^\s*{re.escape(tool.package)} v(\S+)"
            found = re.search(pattern, (HERE / "go.mod").read_text(), re.MULTILINE)
            assert found
            return found[1]
