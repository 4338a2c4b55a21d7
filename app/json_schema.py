"""JSON Schema as every client generator reads it: the same values, in the plainest words.

Generators differ in what they know of JSON Schema. What all of them read: an `enum` of one beside a
`const`, the width of an integer that may be large, `null` as one of several types but never among
an enum's values, `oneOf` where alternatives exclude each other, and no titles that would become
names of their own.
"""

from typing import Any

Schema = dict[str, Any]

_INT32 = 2**31 - 1
_NULL = {"type": "null"}


def plain(schema: Schema) -> Schema:
    """The schema, and all within it, in those words."""
    members = {
        name: {key: plain(one) for key, one in value.items()}
        if name in ("properties", "$defs")
        else _plain_value(value)
        for name, value in schema.items()
        if name != "title"
    }
    return _plain_integer(_plain_union(_plain_const(members)))


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return plain(value)
    return [_plain_value(one) for one in value] if isinstance(value, list) else value


def _plain_const(schema: Schema) -> Schema:
    return {**schema, "enum": [schema["const"]]} if "const" in schema else schema


def _plain_union(schema: Schema) -> Schema:
    if "anyOf" not in schema:
        return schema
    alternatives, rest = schema["anyOf"], {**schema}
    del rest["anyOf"]
    if any("$ref" in one for one in alternatives):
        return {"oneOf": alternatives, **rest}
    known = [one for one in alternatives if one != _NULL]
    merged = {name: value for one in known for name, value in one.items()}
    if "enum" in merged:
        merged["enum"] = [value for one in known for value in one["enum"]]
        return ({"oneOf": [merged, _NULL]} if _NULL in alternatives else merged) | rest
    types = list(dict.fromkeys(one["type"] for one in alternatives))
    return {**merged, "type": types[0] if len(types) == 1 else types, **rest}


def _plain_integer(schema: Schema) -> Schema:
    if schema.get("type") != "integer":
        return schema
    bounds: Schema = {
        name: int(schema[name]) for name in ("minimum", "maximum") if schema.get(name) is not None
    }
    if bounds.get("maximum", 0) > _INT32:
        bounds["format"] = "int64"
    return schema | bounds
