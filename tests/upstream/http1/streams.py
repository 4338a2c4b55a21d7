"""Byte streams that are responses, almost responses, or nothing of the kind."""

import random
from typing import NamedTuple

from hypothesis import strategies as st

_STARTS = [
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 204 No Content\r\n",
    b"HTTP/1.1 304 Not Modified\r\n",
    b"HTTP/1.1 500 X\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n",
    b"HTTP/1.1 2000 OK\r\n",
    b"ICE/1.0 200 OK\r\n",
    b"\r\n",
]
_FIELDS = [
    b"Content-Type: application/json\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"content-length: 12\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"A: \xe9 b \t\r\n",
    b"A:\r\n",
    b"A : b\r\n",
    b"A: b\r\n c\r\n",
    b"A: b\rc\r\n",
    b"A: b\n",
    b"A: \0\r\n",
]
_BODIES = [
    b"\r\n",
    b"\r\nhello",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"\r\n5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    b"\r\n5 \r\nhello\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\n",
    b"\r",
    b"",
]


class Sample(NamedTuple):
    """A response that is as it should be."""

    stream: bytes
    body: bytes
    """Of nothing but one byte, its mark."""
    ends_with_connection: bool


def response(chance: random.Random, mark: bytes) -> Sample:
    early = b"".join(chance.sample(_STARTS[6:8], chance.choice([0, 0, 0, 1, 2])))
    fields = b"X-Mark: " + mark + b"\r\n" + chance.choice([b"", _FIELDS[0], _FIELDS[8]])
    body = mark * chance.choice([0, 1, 5, 20, 300, chance.choice([20] * 50 + [70_000])])
    match chance.randrange(5):
        case 0:
            head = chance.choice(_STARTS[3:5]) + fields + chance.choice([b"", _FIELDS[1]])
            return Sample(early + head + b"\r\n", b"", ends_with_connection=False)
        case 1:
            head = chance.choice([*_STARTS[:3], _STARTS[5]]) + fields
            return Sample(early + head + b"\r\n" + body, body, ends_with_connection=True)
        case 2:
            head = chance.choice([*_STARTS[:2], _STARTS[5]]) + fields
            size = chance.randint(1, 100)
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            trailers = chance.choice([b"", b"X-Mark: " + mark + b"\r\n"])
            stream = early + head + b"Transfer-Encoding: chunked\r\n\r\n" + framed
            end = b"0\r\n" + trailers + b"\r\n"
            return Sample(stream + end, body, ends_with_connection=False)
        case _:
            head = chance.choice([*_STARTS[:2], _STARTS[5]]) + fields
            stream = early + head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            return Sample(stream, body, ends_with_connection=False)


def mutated(chance: random.Random, stream: bytes, mark: bytes) -> bytes:
    """`stream`, changed in a few places."""
    changed = bytearray(stream)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0:
                changed[at : at + 1] = bytes([chance.randrange(128)])
            case 1:
                del changed[at : at + chance.randint(1, 30)]
            case 2:
                changed[at:at] = chance.choice([*_FIELDS, *_BODIES, *_STARTS])
            case 3:
                changed[at:at] = changed[at : at + chance.randint(1, 60)]
            case 4:
                changed[at:at] = bytes(chance.randrange(128) for _ in range(chance.randint(1, 8)))
            case _:
                changed += response(chance, mark).stream
    return bytes(changed)


def streams() -> st.SearchStrategy[bytes]:
    """Of all kinds, for hypothesis."""
    part = st.one_of(st.sampled_from(_FIELDS), st.sampled_from(_BODIES), st.binary(max_size=4))
    parts = st.tuples(st.sampled_from(_STARTS), st.lists(part, max_size=6)).map(
        lambda parts: parts[0] + b"".join(parts[1])
    )
    chance = st.randoms(use_true_random=False)
    good = chance.map(lambda chance: response(chance, b"x").stream)
    return st.one_of(
        good,
        st.tuples(chance, good).map(lambda pair: mutated(*pair, b"y")),
        st.lists(parts, min_size=1, max_size=3).map(b"".join),
        st.binary(min_size=1, max_size=60),
    )
