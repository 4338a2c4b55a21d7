import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.params import read_cache_control

NEITHER, NO_CACHE, NO_STORE = (False, False), (True, False), (True, True)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], NEITHER),
        ([(b"accept", b"no-cache")], NEITHER),
        ([(b"cache-control", b"no-cache")], NO_CACHE),
        ([(b"cache-control", b"max-age=0")], NO_CACHE),
        ([(b"cache-control", b"Max-Age=0 , no-transform")], NO_CACHE),
        ([(b"cache-control", b"no-store")], NO_STORE),
        ([(b"cache-control", b"max-age=0"), (b"cache-control", b"NO-STORE")], NO_STORE),
        ([(b"cache-control", b"max-age=10, max-stale, only-if-cached")], NEITHER),
        ([(b"cache-control", b"")], NEITHER),
        ([(b"cache-control", b"no-storet, no-cache=x")], NEITHER),
        ([(b"pragma", b"no-cache")], NO_CACHE),
        ([(b"pragma", b"No-Cache, x")], NO_CACHE),
        ([(b"pragma", b"no-store")], NEITHER),
        ([(b"pragma", b"no-cache"), (b"cache-control", b"")], NEITHER),
        ([(b"pragma", b"no-cache"), (b"cache-control", b"no-store")], NO_STORE),
    ],
)
def test_cache_control_and_pragma_are_read_as_no_cache_and_no_store(
    lines: list[tuple[bytes, bytes]], expected: tuple[bool, bool]
) -> None:
    assert read_cache_control(lines) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"cache-control", b"pragma", b"accept"]),
            st.sampled_from([b"no-cache", b"no-store", b"max-age=0", b"max-age=9", b"x,no-cache"]),
        ),
        max_size=4,
    )
)
def test_cache_control_no_store_is_always_a_reload_too(lines: list[tuple[bytes, bytes]]) -> None:
    no_cache, no_store = read_cache_control(lines)
    assert no_cache >= no_store
    assert no_store is ((b"cache-control", b"no-store") in lines)
