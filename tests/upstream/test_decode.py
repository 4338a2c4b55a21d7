import json

import pytest
from pydantic import BaseModel, ConfigDict

from app.call import Decode
from app.errors import InvalidPayload
from app.upstream.decode import many, one


class Leaf(BaseModel):
    """The least that a source's model is."""

    model_config = ConfigDict(strict=True)

    id: int
    name: str


leaf, leaves = one(Leaf), many(Leaf)

GOOD = b'{"id":1,"name":"a"}'
BAD = b'{"id":"1","name":"a"}'


def came_of(decode: Decode, body: bytes) -> tuple[bytes, int]:
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
def test_one_is_given_as_its_model_has_it(body: bytes) -> None:
    assert came_of(leaf, body) == (GOOD, 0)


def test_many_are_given_in_their_order() -> None:
    second = b'{"id":2,"name":"b"}'
    assert came_of(leaves, b"[ %b, %b, %b ]" % (second, GOOD, second)) == (
        b"[%b,%b,%b]" % (second, GOOD, second),
        0,
    )


def test_no_items_are_a_list_all_the_same() -> None:
    assert came_of(leaves, b"[]") == (b"[]", 0)


@pytest.mark.parametrize(
    "broken", [BAD, b"null", b"7", b"[]", b'"a"', b"{}", b'{"id":1}', b'{"id":1.5,"name":"a"}']
)
def test_a_broken_item_is_left_out_and_counted(broken: bytes) -> None:
    assert came_of(leaves, b"[%b,%b,%b]" % (broken, GOOD, broken)) == (b"[%b]" % GOOD, 2)


def test_an_item_is_judged_alike_beside_a_broken_one() -> None:
    odd = b'{"id":%d,"name":"\\ud83d\\ude00 \\u0000 NaN","x":1e999,"y":[1.0,-0]}' % 2**70
    alone, beside = leaves(b"[%b]" % odd), leaves(b"[%b,null]" % odd)
    assert (beside.json, beside.dropped) == (alone.json, 1)


def test_a_list_of_nothing_but_broken_items_is_refused() -> None:
    assert refusal(leaves, b"[%b,null]" % BAD) == "no item has the expected shape"


def test_a_thousand_broken_items_may_be_left_out_but_not_any_number() -> None:
    assert came_of(leaves, b"[%b%b]" % (GOOD, b",null" * 1000)) == (b"[%b]" % GOOD, 1000)
    assert refusal(leaves, b"[%b%b]" % (GOOD, b",null" * 1001)) == (
        "too many items do not have the expected shape"
    )


NOT_JSON = {
    "nothing": b"",
    "HTML": b"<html></html>",
    "cut off": b'{"id":1,"name":"a',
    "two values": GOOD + GOOD,
    "a comma too many": b'{"id":1,"name":"a",}',
    "single quotes": b"{'id':1,'name':'a'}",
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "not UTF-8": b'{"id":1,"name":"\xff"}',
    "a lone surrogate": b'{"id":1,"name":"\\ud800"}',
    "a surrogate in UTF-8": b'{"id":1,"name":"\xed\xa0\x80"}',
    "a control character": b'{"id":1,"name":"\n"}',
    "a leading zero": b'{"id":01,"name":"a"}',
    "NaN": b'{"id":1,"name":"a","x":NaN}',
    "Infinity": b'{"id":1,"name":"a","x":Infinity}',
    "-Infinity": b'{"id":1,"name":"a","x":[{"y":-Infinity}]}',
    "NaN, and as text": b'{"id":1,"name":"NaN","x":NaN}',
    "too deep": b'{"id":1,"name":"a","x":%b%b}' % (b"[" * 200_000, b"]" * 200_000),
    "5,000 digits": b'{"id":1,"name":"a","x":%b}' % (b"9" * 5000),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused_alone_and_in_a_list(body: bytes) -> None:
    assert refusal(leaf, body) == "the body is not JSON"
    assert refusal(leaves, b"[%b,%b]" % (GOOD, body or b",")) == "the body is not JSON"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity, as they say"])
def test_the_words_for_no_number_may_stand_in_a_text(word: str) -> None:
    body = json.dumps({"id": 1, "name": word}).encode()
    assert json.loads(leaf(body).json)["name"] == word
    assert json.loads(leaves(b"[%b,null]" % body).json)[0]["name"] == word


@pytest.mark.parametrize(
    ("decode", "body", "cause"),
    [
        (leaf, b"null", "model_type "),
        (leaf, b"[]", "model_type "),
        (leaf, b'{"id":1}', "missing name"),
        (leaf, BAD, "int_type id"),
        (leaves, GOOD, "list_type "),
        (leaves, b"null", "list_type "),
    ],
)
def test_a_wrong_shape_is_told_to_the_log_without_its_values(
    decode: Decode, body: bytes, cause: str
) -> None:
    with pytest.raises(InvalidPayload, match="the body does not have the expected shape") as caught:
        decode(body)
    assert caught.value.cause == cause


def test_of_a_name_given_twice_one_is_taken() -> None:
    assert came_of(leaf, b'{"id":2,"id":1,"name":"a"}') == (GOOD, 0)
    assert came_of(leaves, b'[null,{"id":2,"id":1,"name":"a"}]') == (b"[%b]" % GOOD, 1)


def test_the_digest_tells_data_apart_by_what_is_sent_on() -> None:
    same = {leaf(body).digest for body in (GOOD, b' {"name": "a", "id": 1, "more": 7}')}
    other = {leaf(b'{"id":2,"name":"a"}').digest, leaves(b"[]").digest}
    assert (len(same), len(same | other)) == (1, 3)
