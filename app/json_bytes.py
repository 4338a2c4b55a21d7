"""JSON joined from parts that are JSON already, so that data are serialised only once."""

from collections.abc import Mapping
from functools import lru_cache


def json_object(members: Mapping[str, bytes]) -> bytes:
    """`members` have names that need no escaping, and values in JSON."""
    return _object_format(tuple(members)) % tuple(members.values())


@lru_cache
def _object_format(names: tuple[str, ...]) -> bytes:
    """The cache stays small: its keys are the shapes of the objects that we send."""
    return b"{%b}" % b",".join(b'"%b":%%b' % name.encode() for name in names)


def json_bool(value: bool) -> bytes:
    return b"true" if value else b"false"


def json_text(value: str) -> bytes:
    """`value` needs no escaping."""
    return b'"%b"' % value.encode()
