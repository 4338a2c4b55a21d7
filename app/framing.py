"""JSON made of parts that are JSON already, so that data are serialised only once (RFC 8259)."""

from collections.abc import Iterable


def json_object(members: Iterable[tuple[str, bytes]]) -> bytes:
    """`members` are names that need no escaping, and values in JSON."""
    return b"{%b}" % b",".join([b'"%b":%b' % (name.encode(), value) for name, value in members])


def json_array(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def json_bool(value: bool) -> bytes:
    return b"true" if value else b"false"


def json_text(value: str) -> bytes:
    """`value` needs no escaping."""
    return b'"%b"' % value.encode()
