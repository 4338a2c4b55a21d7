"""Values that cannot be held become null: exactly those, and in a time that no body can stretch."""

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.upstream.json_repair import repair

SIZE = 1_000_000


def holdable(value: Any) -> Any:
    """What is left of a value, by Python's own means."""
    match value:
        case str():
            return value if value.isascii() or is_utf8(value) else None
        case dict():
            return {
                name if is_utf8(name) else "\ufffd": holdable(one) for name, one in value.items()
            }
        case list():
            return [holdable(one) for one in value]
    return value


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


surrogates = st.sampled_from(["\ud83d", "\ude00", "\ud800", "\udfff", "\udbff", "\udc00"])
texts = st.lists(st.one_of(surrogates, st.sampled_from('\\"u{d8 é😀\n')), max_size=6).map("".join)
texts = texts.map(lambda text: json.loads(json.dumps(text)))  # two halves side by side are one pair
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        texts,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=12,
)


@given(values, st.sampled_from([None, 2]), st.booleans())
def test_of_any_value_only_lone_surrogates_become_null(
    value: object, indent: int | None, is_ascii: bool
) -> None:
    try:
        body = json.dumps(value, indent=indent, ensure_ascii=is_ascii).encode()
    except UnicodeEncodeError:  # it can be written with escapes alone
        body = json.dumps(value, indent=indent).encode()
    assert json.loads(repair(body)) == holdable(value)


@pytest.mark.parametrize(("digits", "is_held"), [(1, True), (4300, True), (4301, False)])
@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("rest", ["", ".5", "e-3", "." + "8" * 5000 + "E+" + "8" * 5000])
def test_a_number_of_more_than_4300_digits_before_its_point_becomes_null(
    digits: int, is_held: bool, sign: str, rest: str
) -> None:
    number = sign + "8" * digits + rest
    text = '[%s, {"%s":%s}, "%s"]'
    after = number if is_held else "null"
    body = (text % (number, number, number, number)).encode()
    assert repair(body).decode() == text % (after, number, after, number)


@given(
    st.one_of(
        st.binary(),
        st.lists(
            st.sampled_from(
                [
                    b'"',
                    b"\\",
                    b"\\ud83d",
                    b"9" * 4301,
                    b"-",
                    b".",
                    b"e",
                    b":",
                    b" ",
                    b"[",
                    b"\\u",
                    b"x",
                ]
            ),
            max_size=30,
        ).map(b"".join),
    )
)
def test_any_bytes_are_repaired_once(body: bytes) -> None:
    assert repair(repair(body)) == repair(body)


BAD = rb'"\ud83d"'
HOSTILE = {
    "one long string": b'["' + b"a" * SIZE + rb'\ud83d"]',
    "escapes": b'["' + rb"\n" * (SIZE // 2) + rb'\ud83d"]',
    "quotes that never end": b'"' + rb"\"" * (SIZE // 2),
    "quotes that never end, after one": BAD + b"," + rb"\"" * (SIZE // 2),
    "halves": b'["' + rb"\ud83d" * (SIZE // 6) + b'"]',
    "many halves": b"[" + b",".join([BAD] * (SIZE // 9)) + b"]",
    "one number": b"9" * SIZE,
    "many numbers": b",".join([b"9" * 4301] * (SIZE // 4302)),
    "numbers that are just short enough": b"-".join([b"9" * 4300] * (SIZE // 4301)),
    "digits and points": b"1.1.1e" * (SIZE // 6),
    "brackets": b"[" * SIZE,
    "spaces after a name": BAD + b" " * SIZE + b":",
    "signs": b"-" * SIZE,
    "names": b"{" + b",".join([BAD + b":1"] * (SIZE // 11)) + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_repair_takes_a_time_that_is_linear_in_the_length(body: bytes) -> None:
    """Some 10 to 60 ms for a megabyte; what grows with the square would take hours."""
    began = process_time()
    repair(body)
    assert process_time() - began < 1.0
