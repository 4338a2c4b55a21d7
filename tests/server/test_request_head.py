"""The head of a request: its size, whatever the pieces that it comes in, and its path."""

import random

import pytest

from app.server.request_head import HeadSize, is_another_version, keep_encoded_slashes

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_the_size_of_a_head_leaves_out_what_comes_after_it_however_it_is_cut() -> None:
    chance = random.Random(3)
    data = HEAD + b"x" * 500
    for _ in range(300):
        size, rest = HeadSize(), data
        while rest and size.bytes < len(HEAD) - 4:
            cut = chance.randint(1, 30)
            size.add(rest[:cut])
            rest = rest[cut:]
        assert size.bytes <= len(HEAD) + 30
    size = HeadSize()
    size.add(data)
    assert size.bytes == len(HEAD) - 4


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        (b"/a/b", b"/a/b"),
        (b"/a%2Fb", b"/a%252Fb"),
        (b"/a%2fb%2Fc", b"/a%252fb%252Fc"),
        (b"/a?b=c%2Fd", b"/a?b=c%2Fd"),
        (b"/a%20b", b"/a%20b"),
    ],
)
def test_an_encoded_slash_in_a_path_survives_decoding(target: bytes, kept: bytes) -> None:
    assert keep_encoded_slashes(target) == kept


@pytest.mark.parametrize(
    ("data", "other"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", True),
        (b"GET / HTTP/3.1\n", True),
        (b"GET / HTTP/1.9\r\n", False),
        (b"GET /\r\n", False),
        (b"\x16\x03\x01", False),
        (b"GET / HTTP/x.0\r\n", False),
    ],
)
def test_another_major_version_is_told_from_what_is_no_request(data: bytes, other: bool) -> None:
    assert is_another_version(data) is other
