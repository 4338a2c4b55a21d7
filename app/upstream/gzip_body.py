"""Compressed bodies: gzip (RFC 1952), bounded in what it may become."""

import zlib

from app.errors import InvalidPayload

_PIECE = 4096
"""Bytes. What follows a member is copied with its end: of all the body, for each of its members, if
it were taken whole."""
_USUAL_RATIO = 4
"""Of JSON, at least."""


def gunzip(body: bytes, limit: int) -> bytes:
    """Decompress all members (RFC 1952 §2.2) to at most `limit` bytes together."""
    inflater = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    room = limit
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        while piece:
            if inflater.eof:
                inflater = zlib.decompressobj(wbits=31)
            try:
                plain = inflater.decompress(piece, room + 1)
            except zlib.error:
                raise InvalidPayload("the body is not gzip, though it says so") from None
            room -= len(plain)
            if room < 0:
                raise InvalidPayload("the body is too large")
            parts.append(plain)
            piece = inflater.unused_data
    if not inflater.eof:
        raise InvalidPayload("the compressed body is incomplete")
    return b"".join(parts)


def gunzipped_size(body: bytes) -> int:
    """About what `gunzip` will give, in bytes: what the body says of itself (RFC 1952 §2.3.1).

    It says that of its last member only, so that of several it is a guess. A body that lies is not
    decompressed any further for that.
    """
    return max(int.from_bytes(body[-4:], "little"), _USUAL_RATIO * len(body))
