import gzip
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidPayload
from app.upstream.gzip_body import gunzip, gunzipped_size

LIMIT = 1000
HELLO = gzip.compress(b"hello " * 100)


@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT])
def test_gzip_up_to_the_limit_is_decompressed(size: int) -> None:
    assert gunzip(gzip.compress(b"x" * size), LIMIT) == b"x" * size


@pytest.mark.parametrize("size", [LIMIT + 1, 64 * LIMIT, 10_000 * LIMIT])
def test_gzip_above_the_limit_is_an_invalid_payload(size: int) -> None:
    with pytest.raises(InvalidPayload, match="the body is too large"):
        gunzip(gzip.compress(b"x" * size), LIMIT)


@pytest.mark.parametrize("length", [*range(20), len(HELLO) - 9, len(HELLO) - 1])
def test_truncated_gzip_is_an_invalid_payload(length: int) -> None:
    with pytest.raises(InvalidPayload, match="the compressed body is incomplete"):
        gunzip(HELLO[:length], LIMIT)


@pytest.mark.parametrize(
    "after", [b"and more", b"\n", bytes(8), HELLO[:1], HELLO[:-1], HELLO[1:], b"x" + HELLO]
)
def test_bytes_after_the_last_gzip_member_are_an_invalid_payload(after: bytes) -> None:
    with pytest.raises(InvalidPayload):
        gunzip(HELLO + after, LIMIT)


@pytest.mark.parametrize("sizes", [(0, 0), (1, 0, 2), (0, LIMIT), (LIMIT - 1, 1), (1,) * LIMIT])
def test_several_gzip_members_are_one_body_up_to_the_limit(sizes: tuple[int, ...]) -> None:
    members = b"".join(gzip.compress(b"x" * size) for size in sizes)
    assert gunzip(members, LIMIT) == b"x" * sum(sizes)
    with pytest.raises(InvalidPayload, match="the body is too large"):
        gunzip(members + gzip.compress(b"x" * (LIMIT + 1 - sum(sizes))), LIMIT)


def test_incompressible_members_of_every_length_are_one_body() -> None:
    plain = [random.Random(size).randbytes(size) for size in range(0, 9000, 97)]
    assert gunzip(b"".join(map(gzip.compress, plain)), 10**6) == b"".join(plain)


def test_the_size_of_a_gzip_body_is_what_it_says_and_more_than_what_arrived() -> None:
    plain = b"0123456789" * 10_000
    assert gunzipped_size(gzip.compress(plain)) == len(plain)
    several = gzip.compress(random.Random(1).randbytes(50_000)) + gzip.compress(b"")
    assert gunzipped_size(several) > 50_000


@pytest.mark.parametrize("body", [b"{}", b"[1,2,3]", zlib.compress(b"{}"), HELLO[1:], b"\x1f\x8c"])
def test_a_body_that_is_not_gzip_is_an_invalid_payload(body: bytes) -> None:
    with pytest.raises(InvalidPayload, match="the body is not gzip, though it says so"):
        gunzip(body, LIMIT)


def test_a_wrong_gzip_checksum_is_an_invalid_payload() -> None:
    with pytest.raises(InvalidPayload):
        gunzip(HELLO[:-8] + bytes(4) + HELLO[-4:], LIMIT)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_any_gzip_body_is_decompressed_or_an_invalid_payload(plain: bytes, limit: int) -> None:
    compressed = gzip.compress(plain)
    if len(plain) <= limit:
        assert gunzip(compressed, limit) == plain
    else:
        with pytest.raises(InvalidPayload):
            gunzip(compressed, limit)


@given(st.one_of(st.binary(), st.binary().map(lambda tail: HELLO[:10] + tail)))
def test_gunzip_raises_nothing_but_invalid_payload_for_any_bytes(body: bytes) -> None:
    try:
        assert len(gunzip(body, LIMIT)) <= LIMIT
    except InvalidPayload:
        pass
