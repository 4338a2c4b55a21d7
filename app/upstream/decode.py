"""From an upstream's bytes to data that passed its model, and back to bytes.

Parsed once, serialised once, bounded before and after decompression.
"""

import zlib
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from app.call import Data, Decode
from app.errors import InvalidPayload

# With this many broken items, a list is not the list that was asked for, and a megabyte of them
# must not hold up everybody else.
_MOST_DROPPED = 1000


def gunzip(body: bytes, limit: int) -> bytes:
    """Decompress one gzip member (RFC 1952) of at most `limit` bytes within."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise InvalidPayload("the body is not gzip, though it says so") from None
    if len(plain) > limit:
        raise InvalidPayload("the body is too large")
    if not inflater.eof or inflater.unused_data:
        raise InvalidPayload("the compressed body is incomplete")
    return plain


def one(model: type[BaseModel]) -> Decode:
    """Decode a body that is one `model`."""
    adapter: TypeAdapter[Any] = TypeAdapter(model)

    def decode(body: bytes) -> Data:
        _refuse_non_finite(body)
        try:
            value = adapter.validate_json(body)
        except ValidationError as error:
            raise _invalid(error) from None
        return _data(adapter.dump_json(value))

    return decode


def many(model: type[BaseModel]) -> Decode:
    """Decode a body that is a list of `model`; an item that breaks it is left out and counted."""
    # One broken item is enough for the fast way to fail: the slow one below counts them.
    items = Annotated[list[model], FailFast()]  # type: ignore[valid-type]  # known at run time
    adapter: TypeAdapter[Any] = TypeAdapter(items)
    item: TypeAdapter[Any] = TypeAdapter(model)

    def decode(body: bytes) -> Data:
        _refuse_non_finite(body)
        try:
            value = adapter.validate_json(body)
        except ValidationError as error:
            if error.errors(include_url=False, include_input=False)[0]["loc"] == ():
                raise _invalid(error) from None
            value, dropped = _sifted(body, item)
            return _data(adapter.dump_json(value), dropped)
        return _data(adapter.dump_json(value))

    return decode


def _data(json: bytes, dropped: int = 0) -> Data:
    return Data(json, dropped, blake2b(json, digest_size=12).digest())


def _sifted(body: bytes, item: TypeAdapter[Any]) -> tuple[list[Any], int]:
    """The items that pass, and how many did not. Only a broken list takes this slower way."""
    good: list[Any] = []
    dropped = 0
    for raw in from_json(body):
        try:
            # Through JSON again: strictness is not the same for Python values.
            good.append(item.validate_json(to_json(raw)))
        except ValidationError:
            dropped += 1
            if dropped > _MOST_DROPPED:
                raise InvalidPayload("too many items do not have the expected shape") from None
    if not good:
        raise InvalidPayload("no item has the expected shape")
    return good, dropped


def _refuse_non_finite(body: bytes) -> None:
    # NaN and Infinity are not JSON (RFC 8259 §6), but the parser under pydantic takes them. The
    # words may also stand in a text, so their presence is only a reason to parse twice.
    if b"NaN" in body or b"Infinity" in body:
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError:
            raise InvalidPayload("the body is not JSON") from None


def _invalid(error: ValidationError) -> InvalidPayload:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return InvalidPayload("the body is not JSON")
    where = ".".join(str(part) for part in first["loc"])
    return InvalidPayload(
        "the body does not have the expected shape", cause=f"{first['type']} {where}"
    )
