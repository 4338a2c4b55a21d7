"""What the head of a request must be before anybody answers it (RFC 9112 §3.2, RFC 9110 §5.3)."""

import re
from collections.abc import Iterable

MAX_HEAD = 65_536
"""Bytes. Envoy's default is 60 KiB; those of nginx and HAProxy are lower."""
MAX_FIELDS = 256

ONCE = {b"authorization": "Authorization", b"x-request-timeout-ms": "X-Request-Timeout-Ms"}
"""Which of two values would count?"""
_HOST = re.compile(rb"([A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")
_VERSION = re.compile(rb"[!-~]+ [!-~]+ HTTP/([0-9]+)\.[0-9]+\r?\n")
_ENCODED_SLASH = re.compile(rb"%2[fF]")


def fault_of(headers: Iterable[tuple[bytes, bytes]], version: str) -> str | bytes | None:
    """`"version"`, `"host"`, the name of a header that is repeated, or nothing."""
    if version not in ("1.0", "1.1"):
        return "version"
    hosts = 0
    seen: set[bytes] = set()
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value):
                return "host"
        elif name in ONCE:
            if name in seen:
                return name
            seen.add(name)
    return None if hosts == 1 or (hosts == 0 and version == "1.0") else "host"


def is_another_version(data: bytes) -> bool:
    """Whether what could not be parsed is a request of another major version."""
    line = _VERSION.match(data)
    return line is not None and line[1] != b"1"


def keep_encoded_slashes(target: bytes) -> bytes:
    """`%2F` in a path is no slash of ours: it stays as it is when the path is decoded."""
    path, mark, query = target.partition(b"?")
    return _ENCODED_SLASH.sub(lambda slash: b"%25" + slash[0][1:], path) + mark + query


class HeadSize:
    """The bytes of a head, without those of a body that came with it."""

    def __init__(self) -> None:
        self.bytes = 0
        self._end = b""

    def add(self, data: bytes) -> None:
        end = (self._end + data).find(b"\r\n\r\n")
        self.bytes += len(data) if end < 0 else end
        self._end = data[-3:]

    def reset(self) -> None:
        self.bytes = 0
        self._end = b""
