"""Decoding: from an upstream's bytes to data that passed their model, as JSON again.

A body is parsed once and serialised once.
"""

from codecs import BOM_UTF8
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import BaseModel, FailFast, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from app.call import Data, Decode
from app.errors import InvalidPayload
from app.upstream.json_repair import repair

# With more broken items, this is hardly the list that was asked for, and counting a megabyte of
# them would block the event loop.
_MAX_DROPPED = 1000


class _NotJsonError(Exception):
    """The parser refuses the body, whatever the model is."""


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

    return _with_repair(decode)


def many(model: type[BaseModel]) -> Decode:
    """Decode a body that is a list of `model`; an item that breaks it is left out and counted."""
    # FailFast: one broken item is enough to fall back to the slow path, which counts them.
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
            value, dropped = _validate_each(body, item)
            return _data(adapter.dump_json(value), dropped)
        return _data(adapter.dump_json(value))

    return _with_repair(decode)


def _with_repair(decode: Decode) -> Decode:
    """Decode with a byte order mark skipped (RFC 8259 §8.1), and the rest as it is, if it can be.

    Only what the parser has refused is repaired: it is rare, and takes another pass over the body.
    """

    def decode_any(body: bytes) -> Data:
        body = body.removeprefix(BOM_UTF8)
        try:
            return decode(body)
        except _NotJsonError:
            pass
        try:
            return decode(repair(body))
        except _NotJsonError:
            raise InvalidPayload("the body is not JSON") from None

    return decode_any


def _data(json: bytes, dropped: int = 0) -> Data:
    return Data(json, dropped, blake2b(json, digest_size=12).digest())


def _validate_each(body: bytes, item: TypeAdapter[Any]) -> tuple[list[Any], int]:
    """The valid items, and how many are not: the slow path, for lists with broken items."""
    good: list[Any] = []
    dropped = 0
    for raw in from_json(body):
        try:
            # As JSON again: strict mode accepts other types in JSON than in Python values.
            good.append(item.validate_json(to_json(raw)))
        except ValidationError:
            dropped += 1
            if dropped > _MAX_DROPPED:
                raise InvalidPayload("too many items do not have the expected shape") from None
    if not good:
        raise InvalidPayload("no item has the expected shape")
    return good, dropped


def _refuse_non_finite(body: bytes) -> None:
    # NaN and Infinity are not JSON (RFC 8259 §6), but pydantic's parser accepts them. They may also
    # be words inside a string, so only a second parse can tell.
    if b"NaN" in body or b"Infinity" in body:
        try:
            from_json(body, allow_inf_nan=False)
        except ValueError:
            raise _NotJsonError from None


def _invalid(error: ValidationError) -> InvalidPayload | _NotJsonError:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return _NotJsonError()
    where = ".".join(str(part) for part in first["loc"])
    return InvalidPayload(
        "the body does not have the expected shape", cause=f"{first['type']} {where}"
    )
