"""Properties of decoding, for any body."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.call import Decode
from app.errors import InvalidPayload
from app.sources.posts import Post
from app.sources.users import User
from app.upstream.decode import many, one

GOOD = b'{"userId":1,"id":1,"title":"t","body":"b"}'
BROKEN = b'{"userId":1,"id":"1","title":"t","body":"b"}'

ids = st.integers(1, 2**53 - 1)
posts = st.fixed_dictionaries({"userId": ids, "id": ids, "title": st.text(), "body": st.text()})


@given(st.lists(posts, max_size=8))
def test_any_valid_list_is_decoded_unchanged(items: list[dict[str, Any]]) -> None:
    data = many(Post)(json.dumps(items).encode())
    assert (json.loads(data.json), data.dropped) == (items, 0)


@given(st.lists(st.one_of(posts, st.none(), st.text(), st.just({})), max_size=8))
def test_broken_items_of_any_list_are_dropped_and_counted(items: list[object]) -> None:
    body = json.dumps(items).encode()
    good = [item for item in items if item and isinstance(item, dict)]
    if items and not good:
        with pytest.raises(InvalidPayload, match="no item has the expected shape"):
            many(Post)(body)
    else:
        data = many(Post)(body)
        assert (json.loads(data.json), data.dropped) == (good, len(items) - len(good))


PIECES = rb'[ ] { } , : " \ \ud800 1 - e9 null true "id" "name" NaN Infinity'.split()
pieces = st.sampled_from([*PIECES, GOOD, BROKEN, b"\xff", b"9" * 4301])
json_like = st.lists(pieces, max_size=20).map(b"".join)


@pytest.mark.parametrize("decode", [one(User), many(Post)])
@given(body=st.one_of(st.binary(max_size=200), json_like, json_like.map(lambda b: b"[%b]" % b)))
def test_any_bytes_are_decoded_to_json_or_an_invalid_payload(decode: Decode, body: bytes) -> None:
    try:
        data = decode(body)
    except InvalidPayload:
        return
    json.loads(data.json)
