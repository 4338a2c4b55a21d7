"""Decoding a body to validated JSON, one model or a list of them."""

import json

import pytest
from pydantic import BaseModel, ConfigDict

from app.call import Decode
from app.errors import InvalidPayload
from app.upstream.decode import many, one


class Leaf(BaseModel):
    """Strict, as every model of a source is."""

    model_config = ConfigDict(strict=True)

    id: int
    name: str


leaf, leaves = one(Leaf), many(Leaf)

GOOD = b'{"id":1,"name":"a"}'
BROKEN = b'{"id":"1","name":"a"}'


def decoded(decode: Decode, body: bytes) -> tuple[bytes, int]:
    data = decode(body)
    return data.json, data.dropped


def refusal(decode: Decode, body: bytes) -> str:
    with pytest.raises(InvalidPayload) as caught:
        decode(body)
    assert not caught.value.retryable
    return caught.value.detail


@pytest.mark.parametrize(
    "body",
    [GOOD, b' {"name" : "a",\r\n\t"id":1} ', b'{"id":1,"name":"\\u0061","more":[{"x":null}]}'],
)
def test_an_object_is_decoded_to_the_fields_of_its_model(body: bytes) -> None:
    assert decoded(leaf, body) == (GOOD, 0)


def test_a_list_is_decoded_in_order() -> None:
    second = b'{"id":2,"name":"b"}'
    assert decoded(leaves, b"[ %b, %b, %b ]" % (second, GOOD, second)) == (
        b"[%b,%b,%b]" % (second, GOOD, second),
        0,
    )


def test_an_empty_list_is_valid() -> None:
    assert decoded(leaves, b"[]") == (b"[]", 0)


@pytest.mark.parametrize(
    "broken", [BROKEN, b"null", b"7", b"[]", b'"a"', b"{}", b'{"id":1}', b'{"id":1.5,"name":"a"}']
)
def test_a_broken_item_is_dropped_and_counted(broken: bytes) -> None:
    assert decoded(leaves, b"[%b,%b,%b]" % (broken, GOOD, broken)) == (b"[%b]" % GOOD, 2)


def test_an_item_is_validated_alike_beside_a_broken_one() -> None:
    odd = b'{"id":%d,"name":"\\ud83d\\ude00 \\u0000 NaN","x":1e999,"y":[1.0,-0]}' % 2**70
    alone, beside = leaves(b"[%b]" % odd), leaves(b"[%b,null]" % odd)
    assert (beside.json, beside.dropped) == (alone.json, 1)


def test_a_list_of_broken_items_only_is_an_invalid_payload() -> None:
    assert refusal(leaves, b"[%b,null]" % BROKEN) == "no item has the expected shape"


def test_a_thousand_broken_items_are_dropped_but_one_more_is_an_invalid_payload() -> None:
    assert decoded(leaves, b"[%b%b]" % (GOOD, b",null" * 1000)) == (b"[%b]" % GOOD, 1000)
    assert refusal(leaves, b"[%b%b]" % (GOOD, b",null" * 1001)) == (
        "too many items do not have the expected shape"
    )


NOT_JSON = {
    "empty": b"",
    "HTML": b"<html></html>",
    "truncated": b'{"id":1,"name":"a',
    "two values": GOOD + GOOD,
    "a trailing comma": b'{"id":1,"name":"a",}',
    "single quotes": b"{'id':1,'name':'a'}",
    "two byte order marks": b"\xef\xbb\xbf" * 2 + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "not UTF-8": b'{"id":1,"name":"\xff"}',
    "a surrogate escape that is cut off": b'{"id":1,"name":"\\ud8"}',
    "a surrogate in UTF-8": b'{"id":1,"name":"\xed\xa0\x80"}',
    "a control character": b'{"id":1,"name":"\n"}',
    "a leading zero": b'{"id":01,"name":"a"}',
    "NaN": b'{"id":1,"name":"a","x":NaN}',
    "Infinity": b'{"id":1,"name":"a","x":Infinity}',
    "-Infinity": b'{"id":1,"name":"a","x":[{"y":-Infinity}]}',
    "NaN, also in a string": b'{"id":1,"name":"NaN","x":NaN}',
    "too deeply nested": b'{"id":1,"name":"a","x":%b%b}' % (b"[" * 200_000, b"]" * 200_000),
    "NaN beside a lone surrogate": b'{"id":1,"name":"a","x":"\\ud800","y":NaN}',
    "5,000 digits after a zero": b'{"id":1,"name":"a","x":0%b}' % (b"9" * 5000),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_body_that_is_not_json_is_an_invalid_payload_alone_and_in_a_list(body: bytes) -> None:
    assert refusal(leaf, body) == "the body is not JSON"
    assert refusal(leaves, b"[%b,%b]" % (GOOD, body or b",")) == "the body is not JSON"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity, as they say"])
def test_nan_and_infinity_are_allowed_inside_a_string(word: str) -> None:
    body = json.dumps({"id": 1, "name": word}).encode()
    assert json.loads(leaf(body).json)["name"] == word
    assert json.loads(leaves(b"[%b,null]" % body).json)[0]["name"] == word


@pytest.mark.parametrize(
    ("decode", "body", "cause"),
    [
        (leaf, b"null", "model_type "),
        (leaf, b"[]", "model_type "),
        (leaf, b'{"id":1}', "missing name"),
        (leaf, BROKEN, "int_type id"),
        (leaves, GOOD, "list_type "),
        (leaves, b"null", "list_type "),
    ],
)
def test_the_cause_of_a_wrong_shape_names_type_and_field_without_the_values(
    decode: Decode, body: bytes, cause: str
) -> None:
    with pytest.raises(InvalidPayload, match="the body does not have the expected shape") as caught:
        decode(body)
    assert caught.value.cause == cause


def test_the_last_one_of_duplicate_keys_counts() -> None:
    assert decoded(leaf, b'{"id":2,"id":1,"name":"a"}') == (GOOD, 0)
    assert decoded(leaves, b'[null,{"id":2,"id":1,"name":"a"}]') == (b"[%b]" % GOOD, 1)


def test_equal_decoded_json_has_an_equal_digest_and_different_json_another() -> None:
    same = {leaf(body).digest for body in (GOOD, b' {"name": "a", "id": 1, "more": 7}')}
    other = {leaf(b'{"id":2,"name":"a"}').digest, leaves(b"[]").digest}
    assert (len(same), len(same | other)) == (1, 3)


UNREPRESENTABLE = {
    "a leading half of a pair": rb'"cut \ud83d"',
    "a trailing half of a pair": rb'"\uDE00 cut"',
    "two leading halves": rb'"\ud83d\uD83D"',
    "a half after a whole pair": rb'"\ud83d\ude00\ud83d"',
    "a half before another escape": rb'"\ud83d\u0041\n"',
    "4,301 digits": b"9" * 4301,
    "60,000 digits, negative": b"-1" + b"0" * 60_000,
    "5,000 digits and a fraction": b"7" * 5000 + b".5e-3",
    "a list of them": rb'["\ud83d",{"\udc00":"\udc00"}]',
}


@pytest.mark.parametrize("value", UNREPRESENTABLE.values(), ids=UNREPRESENTABLE.keys())
def test_a_lone_surrogate_or_an_enormous_integer_costs_nothing_in_an_ignored_field(
    value: bytes,
) -> None:
    body = b'{"id":1,"x":%b,"name":"a","y":[1,%b]}' % (value, value)
    assert decoded(leaf, body) == (GOOD, 0)
    assert decoded(leaves, b"[%b,%b]" % (body, body)) == (b"[%b,%b]" % (GOOD, GOOD), 0)


@pytest.mark.parametrize("value", UNREPRESENTABLE.values(), ids=UNREPRESENTABLE.keys())
@pytest.mark.parametrize("field", ["id", "name"])
def test_a_lone_surrogate_or_an_enormous_integer_in_a_needed_field_costs_its_item(
    field: str, value: bytes
) -> None:
    body = b'{"id":1,"name":"a","%b":%b}' % (field.encode(), value)
    assert refusal(leaf, body) == "the body does not have the expected shape"
    assert decoded(leaves, b"[%b,%b,%b]" % (GOOD, body, GOOD)) == (b"[%b,%b]" % (GOOD, GOOD), 1)


def test_a_lone_surrogate_in_a_name_costs_nothing() -> None:
    assert decoded(leaf, rb'{"\ud83d" : 7,"id":1,"name":"a","\ud83d":{}}') == (GOOD, 0)


def test_nan_in_a_string_beside_a_lone_surrogate_is_allowed() -> None:
    assert decoded(leaf, rb'{"x":["NaN","\ud83d"],"id":1,"name":"a"}') == (GOOD, 0)


@pytest.mark.parametrize("body", [GOOD, b" " + GOOD])
def test_a_byte_order_mark_is_skipped(body: bytes) -> None:
    assert decoded(leaf, b"\xef\xbb\xbf" + body) == (GOOD, 0)
    assert decoded(leaves, b"\xef\xbb\xbf[%b,null]" % body) == (b"[%b]" % GOOD, 1)
