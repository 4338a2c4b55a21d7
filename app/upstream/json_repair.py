"""What JSON can write, and neither UTF-8 nor a number of ours can hold, becomes `null`.

Half of a surrogate pair (RFC 8259 §8.2), which JavaScript writes for an emoji that was cut in two,
and integers of thousands of digits. The parser refuses the whole body for one of them.
"""

import re

_MAX_DIGITS = 4300
"""Of an integer: more than the parser takes, and than Python does."""

# Possessive (`++`), so that the time is linear in the length, whatever the bytes are.
_PAIR = rb"\\u[dD][89abAB]..\\u[dD][c-fC-F].."
_GOOD_STRING = rb'"(?:[^"\\]++|\\(?!u[dD][89a-fA-F]).|%b)*+"' % _PAIR
_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_FRACTION = rb"(?:\.\d++)?+(?:[eE][+-]?\d++)?+"
_GOOD_NUMBER = rb"-?\d{1,%d}+(?!\d)%b" % (_MAX_DIGITS, _FRACTION)
_GOOD = rb'(?P<good>(?:[^"\d-]++|%b|%b)*+)' % (_GOOD_STRING, _GOOD_NUMBER)
_BAD_NAME = rb"(?P<name>%b(?=\s*+:))" % _STRING
_BAD_VALUE = rb"(?P<value>%b|-?[1-9]\d{%d,}+%b)" % (_STRING, _MAX_DIGITS, _FRACTION)
_REST = rb"(?P<rest>.*+)"  # what is no JSON, or nothing: read no further
_PIECE = re.compile(rb"%b(?:%b|%b|%b)" % (_GOOD, _BAD_NAME, _BAD_VALUE, _REST), re.DOTALL)

_REPLACED = {"name": b'"\xef\xbf\xbd"', "value": b"null"}
"""A name stays one, which no model has: U+FFFD, the replacement character."""


def repair(body: bytes) -> bytes:
    """The same JSON without them. By its syntax, what is no JSON is none after it either."""
    return _PIECE.sub(lambda piece: piece["good"] + _replacement(piece), body)


def _replacement(piece: re.Match[bytes]) -> bytes:
    return _REPLACED.get(piece.lastgroup or "") or piece["rest"]
